//! Redis for these tests: a server of one's own for each, since most of them empty, freeze or kill it.

use std::time::Duration;

use anyhow::Result;
use reprise_shared::redis::{KeyPrefix, Redis, Settings};
use reprise_tests::env::{Private, Servers};
use reprise_tests::servers::{self, Server as _};

/// A Redis that one test may stop, empty and reconfigure. Ends when dropped.
pub(crate) struct OwnServer(Private<servers::Redis>);

impl OwnServer {
    /// Starts one, without persistence, and waits until it answers.
    pub(crate) async fn start() -> Result<Self> {
        Ok(Self(Servers::own().redis().await?))
    }

    /// Stops the server as a crash would: what it held is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    /// Starts it again, empty, on the same port.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.0.start_again().await
    }

    /// Stops answering without closing any connection, as a host does that vanished from the network.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        self.0.pause()
    }

    /// Answers again.
    pub(crate) fn thaw(&mut self) -> Result<()> {
        self.0.resume()
    }

    pub(crate) fn url(&self) -> String {
        self.0.endpoint().to_owned()
    }

    /// Runs one command past the code under test.
    pub(crate) async fn command(&self, parts: &[&str]) -> Result<redis::Value> {
        let mut connection = redis::Client::open(self.url())?
            .get_multiplexed_async_connection()
            .await?;
        let mut command = redis::cmd(parts[0]);
        command.arg(&parts[1..]);
        Ok(command.query_async(&mut connection).await?)
    }
}

/// Opens a handle under a prefix of its own.
pub(crate) fn open(url: &str) -> Redis {
    let mut settings = Settings::new(url);
    settings.prefix = KeyPrefix::new(format!("test-{}", uuid::Uuid::now_v7().simple())).expect("a legal prefix");
    settings.response_timeout = Duration::from_secs(2);
    settings.bulk_timeout = Duration::from_secs(4);
    Redis::open(settings).expect("usable settings")
}
