//! `migrate`: reprise's own schema, and on demand the shipped target tables.

use reprise_shared::clock::Clock;
use reprise_shared::mysql::{self, Database};

use crate::config::Config;

/// Why the schema was not brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot be used.
    #[error("the database's URL cannot be used")]
    Url(#[source] mysql::InvalidUrl),
    /// reprise's own schema.
    #[error("migrate reprise's own schema")]
    Own(#[source] mysql::MigrationError),
    /// The shipped target tables.
    #[error("create the shipped target tables")]
    DemoTables(#[source] mysql::MigrationError),
}

/// Applies what is missing of reprise's own schema, and then of the shipped target tables if asked to.
///
/// Several processes may do so at once: one works and the others wait for it. Safe to run again, also after a drop.
pub async fn run(config: &Config, demo_tables: bool) -> Result<(), Error> {
    let database = Database::new(&config.mysql.database(), Clock::system()).map_err(Error::Url)?;
    let pool = database.pool();
    mysql::migrate(pool).await.map_err(Error::Own)?;
    tracing::info!("schema is up to date");
    if demo_tables {
        mysql::migrate_demo(pool).await.map_err(Error::DemoTables)?;
        tracing::info!("shipped target tables are there");
    }
    Ok(())
}
