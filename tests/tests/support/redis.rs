//! Redis for these tests: a server of one's own for each, since most of them empty, freeze or kill it.

use std::time::Duration;

use anyhow::Result;
use reprise_shared::redis::{KeyPrefix, Redis, Settings};
use reprise_tests::env::Private;
use reprise_tests::servers::{self, Server as _};

/// A Redis that one test may stop, empty and reconfigure. Ends when dropped.
pub(crate) type OwnServer = Private<servers::Redis>;

/// Runs one command past the code under test.
pub(crate) async fn command(server: &OwnServer, parts: &[&str]) -> Result<redis::Value> {
    let mut connection = redis::Client::open(server.endpoint())?
        .get_multiplexed_async_connection()
        .await?;
    let mut command = redis::cmd(parts[0]);
    command.arg(&parts[1..]);
    Ok(command.query_async(&mut connection).await?)
}

/// Opens a handle under a prefix of its own.
pub(crate) fn open(url: &str) -> Redis {
    let mut settings = Settings::new(url);
    settings.prefix = KeyPrefix::new(format!("test-{}", uuid::Uuid::now_v7().simple())).expect("a legal prefix");
    settings.response_timeout = Duration::from_secs(2);
    settings.bulk_timeout = Duration::from_secs(4);
    Redis::open(settings).expect("usable settings")
}
