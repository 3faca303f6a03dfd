//! The control plane's whole life: put together, serve, stop in order.

mod parts;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use reprise_shared::catalog::Catalog;
use reprise_shared::clock::Clock;
use reprise_shared::health::{self, Latch, Readiness};
use reprise_shared::mysql::{self, Database};
use reprise_shared::redis::{self, Redis};
use reprise_shared::supervise::{Failure, OnCancel, OnError, Supervisor};
use reprise_shared::telemetry::{Metrics, chain};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::config::Config;
use crate::explain::{self, Explainer};
use crate::fleet::Fleet;
use crate::grpc::changes::Changes;
use crate::guard::{self, Guard};
use crate::ingest::Ingest;
use crate::jobs::{self, Jobs};
use crate::kafka::Kafka;
use crate::offsets::{self, Offsets};
use crate::serve::{self, Tls};
use crate::{grpc, reload, whitelist};

/// Changes that nobody waits for any more have this long to end.
const LAST_CHANGES: Duration = Duration::from_secs(3);
/// The tasks that outlive the server have this long to end.
const LAST_TASKS: Duration = Duration::from_secs(3);
/// MySQL is asked again after this long when it did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// Takes gRPC calls.
    pub grpc: TcpListener,
    /// Takes `/healthz`, `/readyz`, `/metrics` and gRPC health, without encryption.
    pub http: TcpListener,
}

/// Why the control plane ended, or refused to start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A URL or setting cannot be used.
    #[error("{what} cannot be used")]
    Setting {
        /// Which one.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Keys or certificates cannot be used.
    #[error("read keys and certificates")]
    Files(#[from] reload::Error),
    /// The schema is older than this binary.
    #[error("the database schema does not fit this binary")]
    Schema(#[source] mysql::MigrationError),
    /// The services cannot be put together.
    #[error("put the services together")]
    Services(#[from] grpc::DescriptorsError),
    /// A critical part failed while running.
    #[error("a part of the control plane failed")]
    Part(#[source] Arc<Failure>),
}

/// Serves until `shutdown`, or until it cannot go on. The health port answers from the first moment to the last.
///
/// # Errors
/// What kept it from starting or going on.
///
/// Not cancel-safe: calls in work would be cut. Cancel `shutdown` and wait.
pub async fn run(
    config: Config,
    catalog: Arc<Catalog>,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let supervisor = Supervisor::new(shutdown.clone());
    let last = CancellationToken::new();
    let readiness = Readiness::new();
    // From before the first answer: without them the process is ready while its parts have not spoken yet.
    let latches = Latches {
        serving: readiness.latch("grpc"),
        schema: readiness.latch("mysql"),
    };
    let health = HealthReporter::new();
    let Listeners { grpc, http } = listeners;
    serve_health(http, &readiness, &health, &supervisor, &last);

    let worked = work(&config, catalog, grpc, &latches, &health, &supervisor).await;
    last.cancel();
    let left = supervisor.stop(LAST_TASKS).await;
    if !left.is_empty() {
        tracing::warn!(?left, "tasks were aborted");
    }
    if let Some(failure) = supervisor.failure() {
        return Err(Error::Part(failure));
    }
    worked?;
    tracing::info!("control plane ended in order");
    Ok(())
}

/// The parts that make the process ready.
struct Latches {
    serving: Latch,
    schema: Latch,
}

fn serve_health(
    listener: TcpListener,
    readiness: &Readiness,
    health: &HealthReporter,
    supervisor: &Supervisor,
    last: &CancellationToken,
) {
    let metrics = Metrics::install();
    let rendered = metrics.clone();
    let endpoints = health::Endpoints {
        readiness: readiness.clone(),
        liveness: Box::new(|| Ok(())),
        render_metrics: Box::new(move || rendered.render()),
        extra_routes: axum::Router::new()
            .route_service("/grpc.health.v1.Health/{*method}", grpc::health_service(health)),
    };
    let server = health::serve(listener, endpoints, last.clone());
    supervisor.spawn("health", OnError::ShutDown, OnCancel::Wait, server);
    let upkeep = metrics.run(last.clone());
    supervisor.spawn("metrics upkeep", OnError::Log, OnCancel::Abort, async move {
        upkeep.await;
        Ok::<_, io::Error>(())
    });
}

/// Makes the clients. None of them connects yet.
fn open(config: &Config, clock: &Clock) -> Result<(Database, Redis, Kafka), Error> {
    let setting = |what, source| Error::Setting { what, source };
    let database = Database::new(&config.mysql.database(), clock.clone())
        .map_err(|error| setting("mysql.url", Box::new(error)))?;
    let settings = config
        .redis
        .settings()
        .map_err(|error| setting("redis", Box::new(error)))?;
    let redis = Redis::open(settings).map_err(|error: redis::Error| setting("redis.url", Box::new(error)))?;
    let kafka =
        Kafka::open(&config.kafka, &config.ingest).map_err(|error| setting("kafka.properties", Box::new(error)))?;
    Ok((database, redis, kafka))
}

async fn work(
    config: &Config,
    catalog: Arc<Catalog>,
    listener: TcpListener,
    latches: &Latches,
    health: &HealthReporter,
    supervisor: &Supervisor,
) -> Result<(), Error> {
    let clock = Clock::system();
    let (database, redis, kafka) = open(config, &clock)?;
    let tls = Tls::load(&config.tls, config.reload_every, supervisor)?;
    let pool = database.pool().clone();
    // Calls are taken, and refused, for a while after the request to shut down.
    let last_call = CancellationToken::new();
    let _until_the_end = last_call.clone().drop_guard();
    let guard = Guard::new(config, &database, &redis, &clock, supervisor, &last_call)?;
    let whitelist = parts::whitelist_store(config, &database, &redis, &catalog, &clock);
    let changes = Changes::new();
    let explained = explain::Parts {
        catalog: Arc::clone(&catalog),
        pool: pool.clone(),
        redis: redis.clone(),
        kafka: kafka.clone(),
        whitelist: whitelist.clone(),
        config: config.explain.clone(),
        clock: clock.clone(),
    };
    let explainer = Explainer::new(explained, supervisor);
    let jobs = parts::jobs(config, &catalog, &database, &redis, &kafka, &whitelist);
    let parts = grpc::Parts {
        watches: jobs::watch::Watches::new(jobs.clone(), supervisor),
        jobs: jobs.clone(),
        fleet: Fleet::new(Arc::clone(&catalog), database.clone(), redis.clone(), clock.clone()),
        ingest: Ingest::new(Arc::clone(&catalog), database.clone(), kafka.clone(), clock.clone()),
        whitelist: whitelist.clone(),
        pool,
        changes: changes.clone(),
        explainer: explainer.map_err(|error| Error::Setting {
            what: "catalog",
            source: Box::new(error),
        })?,
        kafka: kafka.clone(),
        offsets: Offsets::new(offsets::Parts {
            catalog: Arc::clone(&catalog),
            database: database.clone(),
            redis,
            kafka,
            clock,
            shutdown: supervisor.shutdown_token(),
            config: config.offsets.clone(),
        }),
    };
    let routes = grpc::routes(parts, &config.grpc, health)?;

    set_health(health, ServingStatus::NotServing).await;
    if !config.auth.is_on() {
        tracing::warn!("auth is off: everybody who can connect may do everything");
    }
    tracing::info!(
        grpc.address = listener.local_addr().ok().map(tracing::field::display),
        grpc.tls = config.tls.is_on(),
        catalog.hash = catalog.hash,
        "control plane starts"
    );
    // Calls in work outlive the request to shut down, by the notice and the drain.
    let drain = CancellationToken::new();
    let service = guard::around(routes, guard);
    let life = async {
        latches.serving.ready();
        let served = serve_until(&database, (whitelist, jobs), &latches.schema, health, supervisor).await;
        set_health(health, ServingStatus::NotServing).await;
        latches.serving.unready("shutting down");
        if served.is_ok() {
            tokio::time::sleep(config.grpc.shutdown_notice).await;
        }
        drain.cancel();
        served
    };
    let server = serve::serve(listener, service, tls, config.grpc.clone(), drain.clone());
    let ((), served) = tokio::join!(server, life);
    if !changes.end(LAST_CHANGES).await {
        tracing::warn!("changes are under way at the end; the next reconciliation settles them");
    }
    served
}

/// Waits for a schema that fits, is healthy from then on, keeps Redis at what MySQL holds, looks after jobs, and waits
/// for shutdown.
async fn serve_until(
    database: &Database,
    (whitelist, jobs): (whitelist::Store, Jobs),
    schema: &Latch,
    health: &HealthReporter,
    supervisor: &Supervisor,
) -> Result<(), Error> {
    let shutdown = supervisor.shutdown_token();
    schema.unready("not reached yet");
    loop {
        let Some(checked) = shutdown.run_until_cancelled(mysql::check_schema(database.pool())).await else {
            return Ok(());
        };
        match checked {
            Ok(()) => break,
            Err(older @ mysql::MigrationError::Older { .. }) => return Err(Error::Schema(older)),
            Err(error) => {
                let reason = chain(&error).to_string();
                tracing::warn!(reason, "mysql is not ready");
                schema.unready(reason);
            }
        }
        if shutdown
            .run_until_cancelled(tokio::time::sleep(ASK_AGAIN))
            .await
            .is_none()
        {
            return Ok(());
        }
    }
    let reconciler = whitelist::Reconciler::new(whitelist).run(shutdown.clone());
    supervisor.spawn("whitelist reconciler", OnError::ShutDown, OnCancel::Abort, async move {
        reconciler.await;
        Ok::<_, io::Error>(())
    });
    let keeper = Box::pin(jobs::keeper::Keeper::new(jobs).run(shutdown.clone()));
    supervisor.spawn("job keeper", OnError::ShutDown, OnCancel::Abort, async move {
        keeper.await;
        Ok::<_, io::Error>(())
    });
    // Ready last: who waits for readiness may ask for health next.
    set_health(health, ServingStatus::Serving).await;
    schema.ready();
    shutdown.cancelled().await;
    Ok(())
}

/// Sets the health of the server as a whole and of each service.
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in [""].iter().chain(&grpc::SERVICES) {
        health.set_service_status(*service, status).await;
    }
}
