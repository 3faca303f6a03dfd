//! How a connection is opened: every session is pinned to the same behaviour, whatever the server's defaults are.

use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

/// Where the server is and how its sessions behave.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `mysql://user:password@host:port/database`, with `ssl-mode`, `ssl-ca`, `ssl-cert` and `ssl-key` as parameters.
    pub url: SecretString,
    /// At most this many connections in the pool that serves everything that is not a lane.
    pub max_connections: u32,
    /// Waiting longer than this for a pooled connection is an error.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    /// The server ends a wait for a row lock after this long. Whole seconds, at least 1.
    #[serde(with = "humantime_serde")]
    pub lock_wait_timeout: Duration,
    /// The server closes an idle pooled session after this long. Whole seconds, at least 1.
    #[serde(with = "humantime_serde")]
    pub wait_timeout: Duration,
    /// A named transaction is tried at most this often.
    pub transaction_attempts: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: SecretString::from("mysql://root@127.0.0.1:3306/reprise"),
            max_connections: 8,
            acquire_timeout: Duration::from_secs(10),
            lock_wait_timeout: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(300),
            transaction_attempts: 8,
        }
    }
}

/// The URL of the server cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the MySQL URL is not valid (it is not shown because it may hold a password)")]
pub struct InvalidUrl(#[source] sqlx::Error);

/// What differs between the sessions of one process.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// The server ends a wait for a row lock after this long.
    pub lock_wait_timeout: Duration,
    /// The server closes an idle session after this long.
    pub wait_timeout: Duration,
    /// How many prepared statements one connection keeps.
    pub statement_cache: usize,
}

/// Opens pinned connections.
#[derive(Clone, Debug)]
pub struct Connector {
    options: MySqlConnectOptions,
    session: Session,
}

impl Connector {
    /// Reads the URL. Nothing is connected yet.
    pub fn new(url: &SecretString, session: Session) -> Result<Self, InvalidUrl> {
        let options = MySqlConnectOptions::from_str(url.expose_secret())
            .map_err(InvalidUrl)?
            // All of these are set by `pin`, in one statement and without depending on the server's defaults.
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false)
            .statement_cache_capacity(session.statement_cache)
            .disable_statement_logging();
        Ok(Self { options, session })
    }

    /// Opens a connection and pins its session. Dropping the future closes the connection.
    pub async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        pin(&mut connection, &self.session).await?;
        Ok(connection)
    }

    /// Returns the driver's options, for a pool.
    pub(super) fn options(&self) -> &MySqlConnectOptions {
        &self.options
    }

    /// Returns what sessions are pinned to.
    pub(super) fn session(&self) -> Session {
        self.session
    }
}

/// Pins a fresh session: strict, UTC, READ COMMITTED, utf8mb4, bounded waits. Valid on MySQL 8 and MariaDB 10.11.
pub(super) async fn pin(connection: &mut MySqlConnection, session: &Session) -> Result<(), sqlx::Error> {
    let sql = format!(
        "/* pin_session */ SET NAMES utf8mb4, time_zone = '+00:00', innodb_lock_wait_timeout = {}, wait_timeout = {}, \
         sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION'; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        session.lock_wait_timeout.as_secs().max(1),
        session.wait_timeout.as_secs().max(1),
    );
    connection.execute(AssertSqlSafe(sql)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_is_refused_without_showing_it() {
        let session = Session {
            lock_wait_timeout: Duration::ZERO,
            wait_timeout: Duration::ZERO,
            statement_cache: 1,
        };
        let error = Connector::new(&SecretString::from("mysql://u:hidden@:x/"), session).expect_err("not a URL");
        assert!(!error.to_string().contains("hidden"));
    }
}
