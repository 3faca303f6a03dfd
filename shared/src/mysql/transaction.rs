//! Named, measured, retried transactions on the pool.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::errors::{self, Phase};
use super::session::{Config, Connector, InvalidUrl, Session, pin};
use crate::backoff::Backoff;
use crate::clock::Clock;

/// Between two tries of one transaction.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));

/// The pool that serves everything that is not a lane.
#[derive(Clone, Debug)]
pub struct Database {
    pool: MySqlPool,
    clock: Clock,
    attempts: usize,
}

impl Database {
    /// Sets up the pool without connecting. Every connection is pinned when it is opened and rolled back before it is
    /// handed out: a future that was dropped inside `begin` may have left a transaction open on it.
    pub fn new(config: &Config, clock: Clock) -> Result<Self, InvalidUrl> {
        let session = Session {
            lock_wait_timeout: config.lock_wait_timeout,
            wait_timeout: config.wait_timeout,
            statement_cache: 100,
        };
        let connector = Connector::new(&config.url, session)?;
        let session = connector.session();
        let pool = MySqlPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.acquire_timeout)
            .test_before_acquire(false)
            .after_connect(move |connection, _| Box::pin(async move { pin(connection, &session).await }))
            .before_acquire(|connection, _| {
                Box::pin(async move {
                    connection.execute("/* before_acquire */ ROLLBACK").await?;
                    Ok(true)
                })
            })
            .connect_lazy_with(connector.options().clone());
        Ok(Self {
            pool,
            clock,
            attempts: config.transaction_attempts.max(1),
        })
    }

    /// Returns the pool, for single statements.
    pub fn pool(&self) -> &MySqlPool {
        &self.pool
    }

    /// Closes the pool; waits for connections that are in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Runs `body` in one transaction and commits it, again after deadlocks, lock waits and lost connections.
    ///
    /// The outcome of a commit whose answer was lost is unknown, and the body then runs again: **it must be
    /// idempotent**. An error of the body that is not the driver's rolls back and is returned at once. `name` stands
    /// in metrics, logs and as a comment before the transaction's first statement.
    ///
    /// Dropping the future rolls back, unless the commit was already on its way.
    pub async fn tx<T, E, F>(&self, name: &'static str, body: F) -> Result<T, E>
    where
        F: for<'c> FnMut(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, E>> + Send,
        T: Send,
        E: From<sqlx::Error> + AsDriverError + Send,
    {
        self.run(name, Kind::Change, body).await
    }

    /// Runs `body`, which only reads, on the state of one moment, however many statements it makes and whatever is
    /// committed meanwhile. It holds no locks, so nobody waits for it. Tried again as [`Self::tx`].
    pub async fn snapshot<T, E, F>(&self, name: &'static str, body: F) -> Result<T, E>
    where
        F: for<'c> FnMut(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, E>> + Send,
        T: Send,
        E: From<sqlx::Error> + AsDriverError + Send,
    {
        self.run(name, Kind::Snapshot, body).await
    }

    async fn run<T, E, F>(&self, name: &'static str, kind: Kind, mut body: F) -> Result<T, E>
    where
        F: for<'c> FnMut(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, E>> + Send,
        T: Send,
        E: From<sqlx::Error> + AsDriverError + Send,
    {
        let started = self.clock.monotonic();
        let mut waits = BACKOFF.waits();
        let mut tries_left = self.attempts - 1;
        let outcome = loop {
            let error = match self.attempt(name, kind, &mut body).await {
                Ok(value) => break Ok(value),
                Err(error) => error,
            };
            let class = error
                .as_driver_error()
                .map(|driver| errors::classify(driver, Phase::Running));
            let Some(class) = class.filter(|class| class.is_retryable() && tries_left > 0) else {
                break Err(error);
            };
            tries_left -= 1;
            metrics::counter!("reprise_mysql_transaction_retries_total", "name" => name, "class" => class.as_str())
                .increment(1);
            tracing::debug!(transaction = name, class = class.as_str(), "transaction is tried again");
            tokio::time::sleep(waits.next_wait()).await;
        };
        let result = if outcome.is_ok() { "committed" } else { "failed" };
        metrics::histogram!("reprise_mysql_transaction_seconds", "name" => name, "result" => result)
            .record(self.clock.monotonic().saturating_sub(started));
        outcome
    }

    async fn attempt<T, E, F>(&self, name: &'static str, kind: Kind, body: &mut F) -> Result<T, E>
    where
        F: for<'c> FnMut(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, E>> + Send,
        E: From<sqlx::Error>,
    {
        let mut connection = self.pool.acquire().await?;
        let begin = match kind {
            Kind::Change => "BEGIN",
            Kind::Snapshot => {
                // For the next transaction alone.
                connection
                    .execute("/* snapshot_level */ SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    .await?;
                "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
            }
        };
        let mut transaction = connection
            .begin_with(AssertSqlSafe(format!("/* {name} */ {begin}")))
            .await?;
        let value = match body(&mut transaction).await {
            Ok(value) => value,
            Err(error) => {
                // A failure here only says that the connection is gone, and then the server rolls back.
                let _ = transaction.rollback().await;
                return Err(error);
            }
        };
        transaction.commit().await?;
        Ok(value)
    }
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Statements that read and change, each on the newest state.
    Change,
    /// Statements that all read the state of one moment.
    Snapshot,
}

/// An error of a transaction's body that may come from the driver, which decides whether the transaction is tried
/// again.
pub trait AsDriverError {
    /// Returns the driver's error, if it is one.
    fn as_driver_error(&self) -> Option<&sqlx::Error>;
}

impl AsDriverError for sqlx::Error {
    fn as_driver_error(&self) -> Option<&sqlx::Error> {
        Some(self)
    }
}
