//! A Redis server that keeps everything in memory and nothing on disk.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{
    Kind, Place, Server, install, ports,
    process::{Process, Program},
};

/// A Redis server. A restart empties it, as the loss of one would.
#[derive(Debug)]
pub struct Redis {
    folder: PathBuf,
    port: u16,
    endpoint: String,
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
            endpoint,
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
            "bind 127.0.0.1\nport {}\ndir \"{folder}\"\nsave \"\"\nappendonly no\n",
            self.port
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
