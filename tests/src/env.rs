//! What a test stands on: shared servers, private ones to break, and a corner of its own in the shared ones.
//!
//! `KAFKA_BROKERS`, `MYSQL_URL` and `REDIS_URL` are used as they are when they are set; `./dev test` starts one set
//! and sets them for all test binaries. A test binary that is run alone starts its own set, which dies with it.

mod isolation;
mod leftovers;

use std::{
    ops::{Deref, DerefMut},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tokio::sync::OnceCell;

pub use self::isolation::Isolation;
pub(crate) use self::isolation::with_database;
pub(crate) use self::leftovers::folder_of_this_process;
use crate::servers::{Endpoints, Kafka, Lifetime, MariaDb, Place, Redis, Scale, Set, set::Given};

/// Servers that all tests of a run share. Nobody stops, flushes or reconfigures these.
#[derive(Debug)]
pub struct Servers {
    endpoints: Endpoints,
    /// Kept for their processes, which end when their handles do.
    _started: Set,
}

impl Servers {
    /// The servers of this run; the first call of a process starts those that the environment does not name.
    ///
    /// Cancel-safe: a later call begins anew.
    ///
    /// # Errors
    /// A server could not be installed or started.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Servers> = OnceCell::const_new();
        SHARED
            .get_or_try_init(|| async {
                let given = given();
                let folder = if given.missing().is_empty() {
                    PathBuf::new()
                } else {
                    folder_of_this_process()?
                };
                let place = Place {
                    folder,
                    lifetime: Lifetime::Bound,
                    scale: Scale::Small,
                };
                let started = Set::start(&place, given)
                    .await
                    .context("start the servers that all tests share")?;
                Ok(Self {
                    endpoints: started.endpoints.clone(),
                    _started: started,
                })
            })
            .await
    }

    /// Where clients find them.
    #[must_use]
    pub const fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Starts what makes private servers, for a test that breaks one.
    #[must_use]
    pub const fn own() -> Own {
        Own
    }
}

/// Starts private servers, one kind at a time.
#[derive(Clone, Copy, Debug)]
pub struct Own;

impl Own {
    /// A Kafka broker of one's own.
    ///
    /// # Errors
    /// It could not be installed or started.
    pub async fn kafka(self) -> Result<Private<Kafka>> {
        Private::of(async |place| Kafka::start(place).await).await
    }

    /// A MariaDB server of one's own.
    ///
    /// # Errors
    /// It could not be installed or started.
    pub async fn mariadb(self) -> Result<Private<MariaDb>> {
        Private::of(async |place| MariaDb::start(place).await).await
    }

    /// A Redis server of one's own.
    ///
    /// # Errors
    /// It could not be installed or started.
    pub async fn redis(self) -> Result<Private<Redis>> {
        Private::of(async |place| Redis::start(place).await).await
    }
}

/// A private server; killed, and its data removed, when this is dropped.
#[derive(Debug)]
pub struct Private<S> {
    // Dropped in this order: the process ends before its folder goes.
    server: S,
    folder: TempDir,
}

impl<S> Private<S> {
    async fn of(start: impl AsyncFnOnce(&Place) -> Result<S>) -> Result<Self> {
        let folder = TempDir::new_in(folder_of_this_process()?).context("create a folder")?;
        let place = Place {
            folder: folder.path().to_owned(),
            lifetime: Lifetime::Bound,
            scale: Scale::Small,
        };
        let server = start(&place).await?;
        Ok(Self { server, folder })
    }

    /// The folder of its data and logs.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl<S> Deref for Private<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.server
    }
}

impl<S> DerefMut for Private<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.server
    }
}

/// The endpoints that the environment names.
#[must_use]
pub fn given() -> Given {
    Given {
        kafka: variable("KAFKA_BROKERS"),
        mysql: variable("MYSQL_URL"),
        redis: variable("REDIS_URL"),
    }
}

/// The folder for what is fetched once and kept: `${XDG_CACHE_HOME:-~/.cache}/reprise`.
///
/// # Errors
/// Neither variable is set.
pub fn cache_folder() -> Result<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(cache
        .context("set HOME or XDG_CACHE_HOME: the folder for downloads depends on them")?
        .join("reprise"))
}

/// The server that `MYSQL_URL` names, without a database: `mysql://user@host:port/`.
///
/// # Errors
/// The variable is not set; `./dev test` and `sandbox with-servers` set it.
pub fn mysql_server() -> Result<String> {
    let url = variable("MYSQL_URL").context("set MYSQL_URL to a server such as mysql://root@127.0.0.1:3306/")?;
    Ok(isolation::with_database(&url, ""))
}

/// The folder with the root of a built image: `REPRISE_IMAGE_ROOT`.
#[must_use]
pub fn image_root() -> Option<PathBuf> {
    variable("REPRISE_IMAGE_ROOT").map(PathBuf::from)
}

/// How many rounds a repeated trial runs: `REPRISE_ROUNDS`, else `usual`.
///
/// # Errors
/// The variable is not a number.
pub fn rounds(usual: u32) -> Result<u32> {
    variable("REPRISE_ROUNDS").map_or(Ok(usual), |text| {
        text.parse()
            .with_context(|| format!("REPRISE_ROUNDS is {text:?}, not a number"))
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tests' environment is read here alone; services have their config"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
