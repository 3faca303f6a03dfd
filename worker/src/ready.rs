//! What a worker depends on, waited for at start. An outage is waited out; what only a person can mend ends the
//! process with everything that is wrong.

use std::time::Duration;

use reprise_shared::catalog::{Catalog, tables};
use reprise_shared::enrich::{self, Lookups};
use reprise_shared::mysql::{self, Database};
use reprise_shared::redis::Redis;
use reprise_shared::supervise::{OnCancel, OnError};
use reprise_shared::telemetry::chain;
use reprise_shared::whitelist;
use tokio_util::sync::CancellationToken;

use crate::run::{Error, Life};

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is ready.
pub(crate) struct Ready {
    pub(crate) database: Database,
    pub(crate) redis: Redis,
    pub(crate) whitelist: whitelist::Handle,
    pub(crate) lookups: Lookups,
}

/// Waits for MySQL with the right schema and tables, and for a known whitelist. `None`: shutdown came first.
pub(crate) async fn wait(life: &Life<'_>) -> Result<Option<Ready>, Error> {
    let Life {
        config,
        catalog,
        clock,
        readiness,
        supervisor,
        shutdown,
    } = life;
    let setting = |what, source| Error::Setting { what, source };
    let database = Database::new(&config.mysql.database(), clock.clone())
        .map_err(|error| setting("mysql.url", Box::new(error)))?;
    let latch = readiness.latch("mysql");
    latch.unready("not reached yet");
    loop {
        match check(&database, catalog).await {
            Ok(()) => break,
            Err(Checked::Refused(error)) => return Err(error),
            Err(Checked::Later(reason)) => {
                tracing::warn!(reason, "mysql is not ready");
                latch.unready(reason);
            }
        }
        if shutdown
            .run_until_cancelled(tokio::time::sleep(RETRY_AFTER))
            .await
            .is_none()
        {
            return Ok(None);
        }
    }
    latch.ready();

    let settings = config
        .redis
        .settings()
        .map_err(|error| setting("redis", Box::new(error)))?;
    let redis = Redis::open(settings).map_err(|error| setting("redis.url", Box::new(error)))?;
    let latch = readiness.latch("whitelist");
    latch.unready("unknown: redis was not reached, or its whitelist was never set");
    let names = catalog
        .data_types
        .iter()
        .map(|data_type| data_type.name.clone())
        .collect();
    let watching = whitelist::Config {
        poll: config.ingest.whitelist_poll,
        ..whitelist::Config::default()
    };
    let (watcher, handle) = whitelist::Watcher::new(redis.clone(), names, watching, clock.clone());
    let token = CancellationToken::clone(shutdown);
    supervisor.spawn("whitelist", OnError::ShutDown, OnCancel::Abort, async move {
        watcher.run(token).await;
        Ok::<_, Error>(())
    });
    let Some(known) = handle.wait_known(shutdown).await else {
        return Ok(None);
    };
    tracing::info!(
        whitelist.version = known.version().0,
        ids = known.len(),
        "whitelist known"
    );
    latch.ready();

    let limits = enrich::Limits::default();
    let lookups = Lookups::new(
        catalog,
        database.pool().clone(),
        clock.clone(),
        (*supervisor).clone(),
        limits,
    );
    Ok(Some(Ready {
        database,
        redis,
        whitelist: handle,
        lookups,
    }))
}

enum Checked {
    Refused(Error),
    Later(String),
}

/// Checks schema and tables. Only what the server answered can refuse the start; no answer is an outage.
async fn check(database: &Database, catalog: &Catalog) -> Result<(), Checked> {
    mysql::check_schema(database.pool())
        .await
        .map_err(|error| match error {
            older @ mysql::MigrationError::Older { .. } => Checked::Refused(Error::Schema(older)),
            other => Checked::Later(chain(&other).to_string()),
        })?;
    tables::check(database.pool(), catalog)
        .await
        .map_err(|error| match error {
            faults @ tables::Error::Faults(_) => Checked::Refused(Error::Tables(faults)),
            other => Checked::Later(chain(&other).to_string()),
        })
}
