//! Values that are made from files, and made anew when the files change: keys and certificates are rotated without a
//! restart. Files that changed into something unusable are told about, and the value stays.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use arc_swap::ArcSwap;
use reprise_shared::telemetry::chain;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// No file of keys or certificates is larger.
const LARGEST_FILE: u64 = 1 << 20;

/// Why a value could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The files' contents cannot be used. Never says what a key is.
    #[error("{what} cannot be used: {problem}")]
    Unusable {
        /// What they should be.
        what: &'static str,
        /// Why.
        problem: String,
    },
}

type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync>;

/// A value and the files that it comes from.
pub(crate) struct Reloaded<T> {
    what: &'static str,
    paths: Vec<PathBuf>,
    make: Make<T>,
    current: Arc<ArcSwap<T>>,
    seen: Vec<Vec<u8>>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads the files and makes the first value.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub(crate) fn load(
        what: &'static str,
        paths: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let seen = read_all(&paths)?;
        let value = make(&seen).map_err(|problem| Error::Unusable { what, problem })?;
        Ok(Self {
            what,
            paths,
            make: Box::new(make),
            current: Arc::new(ArcSwap::from_pointee(value)),
            seen,
        })
    }

    /// Returns where the newest value always is.
    pub(crate) fn current(&self) -> Arc<ArcSwap<T>> {
        Arc::clone(&self.current)
    }

    /// Looks at the files every now and then, until shutdown. Cancel-safe.
    pub(crate) async fn watch(mut self, every: Duration, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            // A few small local files: no reason for a thread of its own.
            match self.look() {
                Ok(true) => {
                    tracing::info!(what = self.what, "read again");
                    metrics::reload_failed(self.what, false);
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(what = self.what, error = %chain(&error), "kept as it was");
                    metrics::reload_failed(self.what, true);
                }
            }
        }
    }

    /// Makes the value anew if the files changed, and tells whether they did. What was found unusable is not told
    /// again before it changes.
    fn look(&mut self) -> Result<bool, Error> {
        let contents = read_all(&self.paths)?;
        if contents == self.seen {
            return Ok(false);
        }
        self.seen = contents;
        let value = (self.make)(&self.seen).map_err(|problem| Error::Unusable {
            what: self.what,
            problem,
        })?;
        self.current.store(Arc::new(value));
        Ok(true)
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, Error> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(failed(io::Error::other("it is larger than 1 MiB")));
    }
    Ok(bytes)
}
