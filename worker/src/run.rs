//! The whole life of a worker, whatever its role: health and metrics from the first moment to the last, and in between
//! what the role does.

use std::io;
use std::sync::Arc;

use rdkafka::error::KafkaError;
use reprise_shared::catalog::{self, Catalog};
use reprise_shared::clock::Clock;
use reprise_shared::decode::PlanError;
use reprise_shared::health::{self, Readiness};
use reprise_shared::mysql;
use reprise_shared::supervise::{Failure, OnCancel, OnError, Supervisor};
use reprise_shared::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Role};
use crate::{ingest, replay};

/// What remains after the role has ended gets this long.
const LAST_TASKS: std::time::Duration = std::time::Duration::from_secs(3);

/// Why a worker ended, or refused to start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A target table does not fit the catalog.
    #[error("target tables do not fit the catalog")]
    Tables(#[source] catalog::tables::Error),
    /// The schema is older than this binary.
    #[error("the database schema does not fit this binary")]
    Schema(#[source] mysql::MigrationError),
    /// The catalog cannot be compiled.
    #[error("the catalog cannot be compiled")]
    Plan(#[source] PlanError),
    /// A URL or setting cannot be used.
    #[error("{what} cannot be used")]
    Setting {
        /// Which one.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The Kafka client refuses its settings.
    #[error("the kafka client refuses its settings")]
    Kafka(#[source] KafkaError),
    /// The system refused a thread.
    #[error("start a thread")]
    Thread(#[source] io::Error),
    /// The poll thread failed.
    #[error("the poll thread failed")]
    Reader(#[source] crate::thread::Error<crate::source::reader::Error>),
    /// A decode thread failed; the panic is in the log.
    #[error("a decode thread panicked")]
    Decode,
    /// A critical part failed while running.
    #[error("a part of the worker failed")]
    Part(#[source] Arc<Failure>),
    /// The orderly shutdown took too long; what was in flight is done again by the next owner.
    #[error("shutdown took longer than {limit:?}: {left:?} did not end")]
    Shutdown {
        /// The limit.
        limit: std::time::Duration,
        /// What still ran.
        left: Vec<Arc<str>>,
    },
}

/// Runs a worker until `shutdown` or until it cannot go on. `listener` serves health and metrics from the
/// first moment on.
///
/// Not cancel-safe: dropping it leaves threads behind. Cancel `shutdown` and wait.
pub async fn run(
    config: Config,
    catalog: Arc<Catalog>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let metrics = Metrics::install();
    let clock = Clock::system();
    let readiness = Readiness::new();
    // From before the first answer: without it the process is ready while its parts have not spoken yet.
    let start = readiness.latch("start");
    let supervisor = Supervisor::new(shutdown.clone());
    // Health is served to the very end: a process that drains is alive and not ready.
    let last = CancellationToken::new();
    let endpoints = health::Endpoints {
        readiness: readiness.clone(),
        liveness: Box::new(|| Ok(())),
        render_metrics: Box::new({
            let metrics = metrics.clone();
            move || metrics.render()
        }),
        extra_routes: axum::Router::new(),
    };
    supervisor.spawn(
        "health",
        OnError::ShutDown,
        OnCancel::Wait,
        health::serve(listener, endpoints, last.clone()),
    );
    let upkeep = last.clone();
    supervisor.spawn("metrics upkeep", OnError::Log, OnCancel::Abort, async move {
        metrics.run(upkeep).await;
        Ok::<_, io::Error>(())
    });

    let life = Life {
        config: &config,
        catalog,
        clock,
        readiness,
        supervisor: &supervisor,
        shutdown: &shutdown,
    };
    let worked = match config.role {
        Role::Ingest => ingest::work(life, start).await,
        Role::Replay => replay::work(life, start).await,
    };
    last.cancel();
    let left = supervisor.stop(LAST_TASKS).await;
    if let Some(failure) = supervisor.failure() {
        return Err(Error::Part(failure));
    }
    worked?;
    if !left.is_empty() {
        return Err(Error::Shutdown {
            limit: LAST_TASKS,
            left,
        });
    }
    tracing::info!("worker ended in order");
    Ok(())
}

/// What a role is given.
pub(crate) struct Life<'a> {
    pub(crate) config: &'a Config,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) clock: Clock,
    pub(crate) readiness: Readiness,
    pub(crate) supervisor: &'a Supervisor,
    pub(crate) shutdown: &'a CancellationToken,
}
