//! A Redis server: in memory alone for a test, with its log on disk for a stack that stays.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{
    Kind, Place, Server, install, ports,
    process::{Lifetime, Process, Program},
};

/// A Redis server. A restart empties one of a test, as the loss of one would; that of a stack keeps its data.
#[derive(Debug)]
pub struct Redis {
    folder: PathBuf,
    port: u16,
    endpoint: String,
    lasting: bool,
    /// Further lines of its configuration, from its next start on.
    pub options: String,
    process: Process,
}

impl Redis {
    /// A server that does not run yet.
    ///
    /// # Errors
    /// Redis is not installed.
    pub fn at(place: &Place, port: u16) -> Result<Self> {
        let folder = place.of(Kind::Redis);
        let program = Program::new(
            "redis",
            install::program("redis-server")?,
            place.log(Kind::Redis),
            place.lifetime,
        )
        .argument(folder.join("redis.conf"));
        let endpoint = format!("redis://127.0.0.1:{port}");
        Ok(Self {
            folder,
            port,
            lasting: place.lifetime == Lifetime::Detached,
            endpoint,
            options: String::new(),
            process: Process::new(program),
        })
    }

    /// Starts a server on a free port.
    ///
    /// # Errors
    /// It could not be installed or started, or does not answer in time.
    pub async fn start(place: &Place) -> Result<Self> {
        install::ensure(&[Kind::Redis]).await?;
        let [port] = ports::free()?;
        let mut redis = Self::at(place, port)?;
        redis.start_again().await?;
        Ok(redis)
    }
}

impl Server for Redis {
    const KIND: Kind = Kind::Redis;

    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    async fn prepare(&mut self) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("create {}", self.folder.display()))?;
        let folder = self.folder.display();
        let options = format!(
            "bind 127.0.0.1\nport {}\ndir \"{folder}\"\nsave \"\"\nappendonly {}\n{}",
            self.port,
            // What outlives its starter keeps its data over a stop, as the other servers do: the ledger lives here.
            if self.lasting { "yes" } else { "no" },
            self.options
        );
        fs::write(self.folder.join("redis.conf"), options).context("write redis.conf")
    }

    async fn look(&self) -> Result<()> {
        let client = ::redis::Client::open(self.endpoint.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let _pong: String = ::redis::cmd("PING").query_async(&mut connection).await?;
        Ok(())
    }
}
