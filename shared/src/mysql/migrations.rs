//! The schema: migrations embedded in the binary, and the check that a process runs on a schema that it knows.
//!
//! The driver's own lock is `GET_LOCK(…, -1)`, which MariaDB answers with NULL and no lock at all. So the lock is
//! taken here, with a positive time limit, on the connection that migrates.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::mysql::{MySqlConnection, MySqlPool};

use super::errors;

static OWN: Migrator = sqlx::migrate!("./migrations");
static DEMO: Migrator = sqlx::migrate!("./migrations/demo");
const DEMO_TABLE: &str = "_sqlx_demo_migrations";
/// Longer than any migration should take; a second process waits for the first one this long.
const LOCK_WAIT: Duration = Duration::from_secs(300);

/// Why migrations were not applied, or the schema was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server could not be asked.
    #[error("cannot {step}")]
    Server {
        /// The failed step.
        step: &'static str,
        /// What the driver said.
        #[source]
        source: sqlx::Error,
    },
    /// Another process holds the migration lock for too long.
    #[error("another process has been migrating this database for more than {} s", LOCK_WAIT.as_secs())]
    Locked,
    /// A migration failed.
    #[error("cannot apply the migrations")]
    Migrate(#[source] MigrateError),
    /// The schema is older than this binary.
    #[error(
        "the database schema lacks migration(s) {}: run `reprise-control-plane migrate` of this version first",
        missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Older {
        /// The versions that are not applied, ascending.
        missing: Vec<i64>,
    },
}

/// Applies reprise's own migrations. Safe to run by several processes at once, and again. A schema that is newer than
/// this binary is left alone.
pub async fn migrate(pool: &MySqlPool) -> Result<(), Error> {
    run(pool, copy(&OWN)).await
}

/// Creates the demo's target tables, tracked apart from reprise's own schema.
pub async fn migrate_demo(pool: &MySqlPool) -> Result<(), Error> {
    let mut migrator = copy(&DEMO);
    migrator.dangerous_set_table_name(DEMO_TABLE);
    run(pool, migrator).await
}

/// Refuses a schema that lacks migrations of this binary, naming them and what to run.
pub async fn check_schema(pool: &MySqlPool) -> Result<(), Error> {
    let applied = sqlx::query_scalar::<_, i64>(
        "/* check_schema */ SELECT version FROM _sqlx_migrations WHERE success ORDER BY version",
    )
    .fetch_all(pool)
    .await;
    let applied: BTreeSet<i64> = match applied {
        Ok(versions) => versions.into_iter().collect(),
        Err(error) if errors::number(&error) == Some(1146) => BTreeSet::new(),
        Err(source) => {
            return Err(Error::Server {
                step: "read the applied migrations",
                source,
            });
        }
    };
    let missing: Vec<i64> = OWN
        .iter()
        .map(|known| known.version)
        .filter(|version| !applied.contains(version))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::Older { missing })
    }
}

fn copy(embedded: &'static Migrator) -> Migrator {
    let mut migrator = Migrator::with_migrations(embedded.iter().cloned().collect());
    migrator.set_locking(false).set_ignore_missing(true);
    migrator
}

async fn run(pool: &MySqlPool, migrator: Migrator) -> Result<(), Error> {
    let mut lock = MigrationLock::take(pool).await?;
    let outcome = migrator
        .run_direct(None, &mut lock.connection, false)
        .await
        .map_err(Error::Migrate);
    lock.release().await;
    outcome
}

/// The right to change tables of a database, which one process has at a time. It is held by a connection that left the
/// pool, so dropping it closes the connection and ends the lock with it.
#[derive(Debug)]
pub struct MigrationLock {
    connection: MySqlConnection,
}

impl MigrationLock {
    /// Takes the lock, and waits while another process has it. Cancel-safe.
    ///
    /// # Errors
    /// The server cannot be asked, or another process has had the lock for five minutes.
    pub async fn take(pool: &MySqlPool) -> Result<Self, Error> {
        let pooled = pool.acquire().await.map_err(|source| Error::Server {
            step: "get a connection to migrate on",
            source,
        })?;
        let mut connection = pooled.detach();
        lock(&mut connection).await?;
        Ok(Self { connection })
    }

    /// Lets it go.
    pub async fn release(self) {
        // The server ends the lock with the connection, also when this polite close fails.
        let _ = self.connection.close().await;
    }
}

async fn lock(connection: &mut MySqlConnection) -> Result<(), Error> {
    let taken: Option<i64> =
        sqlx::query_scalar("/* migration_lock */ SELECT GET_LOCK(CONCAT('reprise:', MD5(DATABASE())), ?)")
            .bind(LOCK_WAIT.as_secs())
            .fetch_one(connection)
            .await
            .map_err(|source| Error::Server {
                step: "take the migration lock",
                source,
            })?;
    if taken == Some(1) { Ok(()) } else { Err(Error::Locked) }
}
