//! `migrate`: reprise's own schema, on demand the shipped target tables, and a table for isolated rows beside each target.

use reprise_shared::catalog::Catalog;
use reprise_shared::clock::Clock;
use reprise_shared::isolated::{self, Made};
use reprise_shared::mysql::{self, Database, MigrationLock};

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
    /// The tables for isolated rows.
    #[error("create the tables for isolated rows")]
    Isolated(#[source] sqlx::Error),
}

/// Applies what is missing of reprise's own schema, then of the shipped target tables if asked to, and then of the tables
/// that isolated rows of the catalog's types go to.
///
/// Several processes may do so at once: one works and the others wait for it. Safe to run again, also after a drop.
pub async fn run(config: &Config, catalog: &Catalog, demo_tables: bool) -> Result<(), Error> {
    let database = Database::new(&config.mysql.database(), Clock::system()).map_err(Error::Url)?;
    let pool = database.pool();
    mysql::migrate(pool).await.map_err(Error::Own)?;
    tracing::info!("schema is up to date");
    if demo_tables {
        mysql::migrate_demo(pool).await.map_err(Error::DemoTables)?;
        tracing::info!("shipped target tables are there");
    }
    let lock = MigrationLock::take(pool).await.map_err(Error::Own)?;
    let tables = isolated::make_tables(pool, catalog).await;
    lock.release().await;
    for (table, made) in tables.map_err(Error::Isolated)? {
        match made {
            Made::Now => tracing::info!(table, "made a table for isolated rows"),
            Made::Completed => tracing::info!(
                table,
                "added the new columns of its target to a table for isolated rows"
            ),
            Made::Before => {}
            Made::NoTarget => tracing::warn!(
                table,
                "the target table is not there yet: run `migrate` again once it is, or jobs of mode ISOLATED will fail"
            ),
        }
    }
    Ok(())
}
