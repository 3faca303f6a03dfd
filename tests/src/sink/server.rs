//! A database of one's own on a server.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use reprise_shared::clock::Clock;
use reprise_shared::mysql::{Config, Database, Session, migrate};
use secrecy::SecretString;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::env::{mysql_server, with_database};

/// A database that this test alone uses.
#[derive(Debug)]
pub struct TestDatabase {
    /// Its URL.
    pub url: SecretString,
    /// A pool on it.
    pub database: Database,
}

impl TestDatabase {
    /// Makes an empty database on the server that `MYSQL_URL` names, with reprise's own schema.
    pub async fn shared() -> Result<Self> {
        Self::on(&mysql_server()?).await
    }

    /// Makes one on another server; `server` is a URL with any database.
    pub async fn on(server: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sink_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut connection = MySqlConnection::connect(&with_database(server, ""))
            .await
            .context("connect to the server")?;
        connection
            .execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}")))
            .await?;
        connection
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await?;
        connection.close().await?;
        let url = SecretString::from(with_database(server, &name));
        let config = Config {
            url: url.clone(),
            ..Config::default()
        };
        let database = Database::new(&config, Clock::system())?;
        migrate(database.pool()).await.context("migrate")?;
        Ok(Self { url, database })
    }

    /// Runs SQL statements, separated by semicolons.
    pub async fn run(&self, sql: impl Into<String>) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql.into()))
            .execute(self.database.pool())
            .await?;
        Ok(())
    }

    /// Asks for one number.
    pub async fn number(&self, sql: impl Into<String>) -> Result<i64> {
        Ok(sqlx::query_scalar(AssertSqlSafe(sql.into()))
            .fetch_one(self.database.pool())
            .await?)
    }

    /// Asks for one column of text, in order.
    pub async fn texts(&self, sql: impl Into<String>) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(AssertSqlSafe(sql.into()))
            .fetch_all(self.database.pool())
            .await?)
    }

    /// The session that lanes use by default.
    pub fn session() -> Session {
        Session {
            lock_wait_timeout: Duration::from_secs(2),
            wait_timeout: Duration::from_secs(20),
            statement_cache: 64,
        }
    }
}
