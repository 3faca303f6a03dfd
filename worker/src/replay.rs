//! A replay worker, put together: it claims tasks of jobs and runs each through the same pipeline as live traffic.
//!
//! Reading order: `claims` looks for tasks, `task` is one from claim to end, `drive` moves it; its `reader` follows
//! the rule of `end`, its `pipeline` is decode and lanes of its own. What slows all of them down is decided by
//! `live_first`, from what `signals` sees.

mod claims;
mod clean;
mod config;
mod consumer;
mod control;
mod delivered;
mod drive;
mod end;
mod judge;
mod lease;
mod live_first;
mod pacer;
mod pipeline;
mod probe;
mod reader;
mod rebuild;
mod replica;
mod running;
mod signals;
mod task;
mod workshop;

use std::sync::Arc;
use std::time::Duration;

use reprise_shared::config::MysqlConfig;
use reprise_shared::decode::{Limits, Plans};
use reprise_shared::health::Latch;
use reprise_shared::heartbeat::Role;
use reprise_shared::jobs::Worker;
use reprise_shared::matching::TopicPlan;
use reprise_shared::mysql::{self, Connector, Database, Session};
use reprise_shared::supervise::{OnCancel, Supervisor};
use sqlx::mysql::MySqlPool;
use tokio_util::sync::CancellationToken;

pub use self::config::Config;
use self::live_first::Flow;
use self::probe::{Probe, ProbeError};
use self::running::Running;
use self::signals::{LiveFirst, Watch};
use self::workshop::Workshop;
use crate::beat::Beat;
use crate::ready::{self, Ready};
use crate::run::{Error, Life};
use crate::{config as worker_config, upkeep};

/// Runs tasks until shutdown: not ready → no more claims → every task lets go → off the list of workers.
pub(crate) async fn work(life: Life<'_>, start: Latch) -> Result<(), Error> {
    let Some(ready) = ready::wait(&life).await? else {
        return Ok(());
    };
    let worker_id = uuid::Uuid::now_v7().simple().to_string();
    let (supervisor, shutdown) = (life.supervisor, life.shutdown);
    let limit = life.config.replay.shutdown;
    let beat = Beat::new(
        ready.redis.clone(),
        life.config.replay.heartbeat,
        (worker_id.clone(), Role::Replay),
        &life.catalog,
        ready.whitelist.clone(),
        life.clock.clone(),
    );
    let workshop = Arc::new(workshop(&life, &ready, worker_id)?);
    watch(&workshop)?;
    upkeep::task(
        supervisor,
        "heartbeat",
        OnCancel::Abort,
        tell(
            beat.clone(),
            workshop.running.clone(),
            life.config.replay.heartbeat,
            shutdown.clone(),
        ),
    );
    let (done, all_let_go) = tokio::sync::oneshot::channel();
    let claiming = claims::run(Arc::clone(&workshop), shutdown.clone());
    upkeep::task(supervisor, "claims", OnCancel::Wait, async move {
        claiming.await;
        // Nobody may be waiting any more.
        let _ = done.send(());
    });
    start.ready();
    shutdown.cancelled().await;
    life.readiness.latch("shutdown").unready("shutting down");
    if tokio::time::timeout(limit, all_let_go).await.is_err() {
        tracing::warn!(
            ?limit,
            "not every task was let go; the next owner waits for its lease to end"
        );
    }
    beat.leave().await;
    Ok(())
}

fn workshop(life: &Life<'_>, ready: &Ready, worker_id: String) -> Result<Workshop, Error> {
    let (config, catalog) = (life.config, &life.catalog);
    let (ingest, replay) = (&config.ingest, &config.replay);
    let session = Session {
        lock_wait_timeout: replay.lock_wait_timeout,
        wait_timeout: replay.lease.max(Duration::from_secs(60)),
        statement_cache: 8,
    };
    let leases = Connector::new(&config.mysql.url_with_tls(), session).map_err(setting)?;
    Ok(Workshop {
        names: catalog
            .data_types
            .iter()
            .map(|data_type| data_type.name.clone())
            .collect(),
        plans: Arc::new(Plans::compile(Arc::clone(catalog)).map_err(Error::Plan)?),
        topics: TopicPlan::compile(catalog).into_iter().map(Arc::new).collect(),
        database: ready.database.clone(),
        leases,
        lookups: ready.lookups.clone(),
        redis: ready.redis.clone(),
        lookup_changes: upkeep::lookups(life.supervisor, catalog, ready),
        probe: probe("replay-topics", config)?,
        live_first: LiveFirst::new(&replay.live_first, replay.ping_interval),
        running: Running::default(),
        worker: Worker {
            id: worker_id,
            lease: replay.lease,
            max_attempts: replay.max_attempts,
        },
        limits: Limits {
            max_payload: usize::try_from(ingest.max_record.as_u64()).unwrap_or(usize::MAX),
            max_depth: ingest.max_depth,
            max_rows: ingest.max_rows_per_record,
        },
        clock: life.clock.clone(),
        supervisor: Supervisor::clone(life.supervisor),
        config: config.clone(),
        catalog: Arc::clone(catalog),
    })
}

/// Starts what looks at live traffic and the database.
fn watch(workshop: &Workshop) -> Result<(), Error> {
    let config = &workshop.config;
    let watch = Watch {
        config: config.replay.live_first.clone(),
        state: workshop.live_first.clone(),
        probe: probe("replay-lag", config)?,
        database: workshop.database.clone(),
        replica: replica(workshop)?,
        running: workshop.running.clone(),
        flow: Flow::default(),
        clock: workshop.clock.clone(),
    };
    let supervisor = &workshop.supervisor;
    let shutdown = supervisor.shutdown_token();
    upkeep::task(supervisor, "live first", OnCancel::Abort, watch.run(shutdown));
    Ok(())
}

fn replica(workshop: &Workshop) -> Result<Option<MySqlPool>, Error> {
    let url = &workshop.config.replay.live_first.replica_url;
    if url.is_empty() {
        return Ok(None);
    }
    let mysql = MysqlConfig {
        url: url.clone(),
        max_connections: 1,
        ..workshop.config.mysql.clone()
    };
    let database = Database::new(&mysql.database(), workshop.clock.clone()).map_err(setting)?;
    Ok(Some(database.pool().clone()))
}

fn probe(name: &'static str, config: &worker_config::Config) -> Result<Probe, Error> {
    let limit = config.replay.kafka_call;
    Probe::new(name, &config.kafka, &config.ingest.group, limit).map_err(|error| match error {
        ProbeError::Client(error) => Error::Kafka(error),
        ProbeError::Thread(error) => Error::Thread(error),
    })
}

fn setting(error: mysql::InvalidUrl) -> Error {
    Error::Setting {
        what: "mysql.url",
        source: Box::new(error),
    }
}

/// Sends heartbeats until shutdown. Cancel-safe.
async fn tell(beat: Beat, running: Running, interval: Duration, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let told = beat.whitelist().applied_version();
        // No task is judged by the whitelist, so there is never an older one in flight.
        beat.send(running.lines(), None).await;
        let early = beat.whitelist().wait_until(&shutdown, |state| state.applied != told);
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
            _ = early => tokio::time::sleep(crate::beat::LEAST_BETWEEN_BEATS).await,
        }
    }
}
