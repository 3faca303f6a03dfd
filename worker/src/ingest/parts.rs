//! Starts the parts, from the database end to the source, and connects them.

use std::sync::Arc;

use crossbeam_channel::Sender;
use rdkafka::consumer::Consumer;
use reprise_shared::catalog::Catalog;
use reprise_shared::clock::Clock;
use reprise_shared::decode;
use reprise_shared::health::Readiness;
use reprise_shared::kafka::calls::Calls;
use reprise_shared::kafka::client::consumer_config;
use reprise_shared::ledger;
use reprise_shared::supervise::{OnCancel, OnError, Supervisor};
use reprise_shared::telemetry::chain;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ready::Ready;
use super::{Error, watch};
use crate::budget::Budget;
use crate::config::Config;
use crate::control::Control;
use crate::decode_stage::{Plans, Stage};
use crate::lanes::{self, Lane, Lanes};
use crate::misses::Resolver;
use crate::progress::tick::{self, Backlog, Progress};
use crate::source::admission::Admission;
use crate::source::intake::Intake;
use crate::source::matching::TopicPlan;
use crate::source::partition::Partitions;
use crate::source::reader::{Command, Reader, Wiring};
use crate::source::rebalance::{Context, LiveConsumer};
use crate::thread::{self, Running};
use crate::types;
use crate::{lookup_changes, source};

/// How long the queues to admission and progress may grow; both are served at once.
const REQUESTS: usize = 4_096;
/// Partitions whose ledger goes in one round trip.
const PARTITIONS_PER_CALL: usize = 64;

/// What runs, as far as an orderly stop needs it.
pub(super) struct Parts {
    pub(super) commands: Sender<Command>,
    pub(super) reader: Running<source::reader::Error>,
    pub(super) decoders: Vec<Running<std::convert::Infallible>>,
    pub(super) lanes: Lanes,
    pub(super) lanes_drained: Vec<tokio::sync::oneshot::Receiver<()>>,
    /// Cancelled when the time for an orderly stop is up.
    pub(super) abandon: CancellationToken,
    pub(super) consumer: Arc<LiveConsumer>,
    pub(super) readiness: Readiness,
    pub(super) beat: watch::Beat,
}

/// Starts everything.
pub(super) fn start(
    config: &Config,
    catalog: Arc<Catalog>,
    clock: Clock,
    readiness: Readiness,
    supervisor: &Supervisor,
    ready: Ready,
) -> Result<Parts, Error> {
    let Ready {
        database,
        redis,
        whitelist,
        lookups,
    } = ready;
    let ingest = &config.ingest;
    let shutdown = supervisor.shutdown_token();
    let abandon = CancellationToken::new();
    let worker_id = uuid::Uuid::now_v7().simple().to_string();
    let partitions = Partitions::default();
    let budget = Arc::new(Budget::new(
        ingest.max_rows_in_flight,
        bytes(ingest.max_bytes_in_flight),
    ));
    let backlog = Arc::new(Backlog::default());
    let plans = Arc::new(Plans::compile(Arc::clone(&catalog)).map_err(Error::Plan)?);
    let payload_limits = decode::Limits {
        max_payload: bytes(ingest.max_record),
        max_depth: ingest.max_depth,
        max_rows: ingest.max_rows_per_record,
    };

    let pool = database.pool().clone();
    let (types, keeper) = types::new(
        Arc::clone(&catalog),
        pool.clone(),
        partitions.clone(),
        ingest.type_states_poll,
    );
    task(supervisor, "type states", OnCancel::Abort, keeper.run(shutdown.clone()));
    let (reporter, exchange) = lookup_changes::new(Arc::clone(&catalog), lookups.clone(), redis.clone());
    task(
        supervisor,
        "lookup changes",
        OnCancel::Abort,
        exchange.run(shutdown.clone()),
    );
    let (refreshing, token) = (lookups.clone(), shutdown.clone());
    task(supervisor, "lookups", OnCancel::Abort, async move {
        if let Some(Err(error)) = token.run_until_cancelled(refreshing.preload()).await {
            tracing::warn!(error = %chain(&error), "preload lookups; they load as they are used");
        }
        refreshing.run(token).await;
    });

    let control = Control {
        types: types.clone(),
        lookup_changes: reporter,
    };
    let (lanes, lane_tasks) = Lanes::new(lanes::Setup {
        catalog: Arc::clone(&catalog),
        config: config.lanes.clone(),
        url: config.mysql.url_with_tls(),
        database: database.clone(),
        budget: Arc::clone(&budget),
        control: Arc::new(control),
        clock: clock.clone(),
    })
    .map_err(|error| Error::Setting {
        what: "mysql.url",
        source: Box::new(error),
    })?;
    let lanes_drained = lane_tasks
        .into_iter()
        .map(|lane| run_lane(supervisor, lane, abandon.clone()))
        .collect();

    let (chunks, decode_queue) = crossbeam_channel::bounded(ingest.decode_queue);
    let stage = Stage {
        plans: Arc::clone(&plans),
        types: types.clone(),
        lookups: lookups.clone(),
        lanes: lanes.clone(),
        budget: Arc::clone(&budget),
        limits: payload_limits,
        clock: clock.clone(),
        runtime: tokio::runtime::Handle::current(),
        shutdown: abandon.clone(),
    };
    let mut decoders = Vec::with_capacity(ingest.decode_threads);
    for number in 0..ingest.decode_threads {
        let (stage, queue) = (stage.clone(), decode_queue.clone());
        let work = move || {
            stage.run(&queue);
            Ok(())
        };
        decoders.push(thread::spawn(&format!("decode-{number}"), work).map_err(Error::Thread)?);
    }

    let consumer = Arc::new(subscribe(config, &catalog)?);
    let calls = |name| Calls::start(name, Arc::clone(&consumer)).map_err(Error::Thread);
    let (commands, received) = crossbeam_channel::unbounded();
    let (admission_queue, events) = mpsc::channel(REQUESTS);
    let (finishes, finish_queue) = mpsc::channel(16);
    let admission = Admission {
        calls: calls("admission")?,
        pool: pool.clone(),
        database: database.clone(),
        partitions: partitions.clone(),
        types: types.clone(),
        catalog: Arc::clone(&catalog),
        start_at: ingest.start_at,
        commands: commands.clone(),
    };
    task(
        supervisor,
        "admission",
        OnCancel::Abort,
        admission.run(events, shutdown.clone()),
    );
    let progress = Progress {
        catalog: Arc::clone(&catalog),
        partitions: partitions.clone(),
        types: types.clone(),
        ledger: ledger::Writer::new(redis.clone(), PARTITIONS_PER_CALL),
        pool,
        commits: calls("commit")?,
        calls: calls("check")?,
        commands: commands.clone(),
        backlog: Arc::clone(&backlog),
        clock: clock.clone(),
        limits: tick_limits(config),
    };
    task(supervisor, "progress", OnCancel::Wait, progress.run(finish_queue));
    let resolver = Resolver {
        catalog: Arc::clone(&catalog),
        plans,
        types: types.clone(),
        lookups,
        whitelist: whitelist.clone(),
        database,
        limits: payload_limits,
        clock: clock.clone(),
        worker_id: worker_id.clone(),
        interval: ingest.resolve_misses,
        park_after: ingest.park_misses_after,
        max_open: ingest.max_open_misses,
    };
    task(
        supervisor,
        "lookup misses",
        OnCancel::Wait,
        resolver.run(shutdown.clone()),
    );

    let wiring = Wiring {
        partitions: partitions.clone(),
        commands: received,
        chunks,
        admission: admission_queue,
        finishes,
        budget,
        backlog,
        whitelist: whitelist.clone(),
        clock: clock.clone(),
    };
    let intake = Intake::new(types.clone(), payload_limits.max_payload);
    let reader = Reader::new(
        Arc::clone(&consumer),
        wiring,
        intake,
        TopicPlan::compile(&catalog),
        ingest.drain,
    );
    let failed = shutdown.clone();
    let work = move || {
        let ended = reader.run();
        // A reader that ends by itself ends the process.
        failed.cancel();
        ended
    };
    let reader = thread::spawn("reader", work).map_err(Error::Thread)?;

    let beat = watch::Beat::new(
        redis,
        ingest.heartbeat,
        worker_id,
        &catalog,
        whitelist,
        partitions,
        clock,
    );
    let watch = watch::Watch::new(
        beat.clone(),
        &readiness,
        types,
        Arc::clone(&consumer),
        ingest.stall_after,
    );
    task(
        supervisor,
        "heartbeat",
        OnCancel::Abort,
        watch.run(ingest.heartbeat, shutdown),
    );
    Ok(Parts {
        commands,
        reader,
        decoders,
        lanes,
        lanes_drained,
        abandon,
        consumer,
        readiness,
        beat,
    })
}

/// Spawns a part that ends only with the worker.
fn task(
    supervisor: &Supervisor,
    name: &'static str,
    on_cancel: OnCancel,
    work: impl Future<Output = ()> + Send + 'static,
) {
    supervisor.spawn(name, OnError::ShutDown, on_cancel, async move {
        work.await;
        Ok::<_, Error>(())
    });
}

fn run_lane(supervisor: &Supervisor, lane: Lane, abandon: CancellationToken) -> tokio::sync::oneshot::Receiver<()> {
    let (drained, wait) = tokio::sync::oneshot::channel();
    task(supervisor, "lane", OnCancel::Wait, async move {
        lane.run(abandon).await;
        // The stop may have given up waiting.
        let _ = drained.send(());
    });
    wait
}

fn subscribe(config: &Config, catalog: &Catalog) -> Result<LiveConsumer, Error> {
    let ingest = &config.ingest;
    let kibibytes = (ingest.fetch_ahead.as_u64() / 1_024).to_string();
    let mut settings = consumer_config(&config.kafka, &ingest.group);
    settings
        .set("session.timeout.ms", ingest.session_timeout.as_millis().to_string())
        .set("max.poll.interval.ms", ingest.max_poll_interval.as_millis().to_string())
        .set("queued.max.messages.kbytes", kibibytes)
        .set("queued.min.messages", "50000")
        // Feeds lag and stall detection.
        .set("statistics.interval.ms", "5000");
    let consumer: LiveConsumer = settings.create_with_context(Context::default()).map_err(Error::Kafka)?;
    let topics: Vec<&str> = catalog.topics.iter().map(|topic| topic.name.as_str()).collect();
    consumer.subscribe(&topics).map_err(Error::Kafka)?;
    Ok(consumer)
}

fn tick_limits(config: &Config) -> tick::Limits {
    let ingest = &config.ingest;
    tick::Limits {
        interval: ingest.tick,
        call: ingest.kafka_call,
        ledger: ledger::Limits {
            seal_after: ingest.segment_time,
            seal_records: ingest.segment_records,
            max_unwritten_records: ingest.max_uncommitted_records,
            max_unwritten_age: ingest.max_uncommitted_time,
            ..ledger::Limits::default()
        },
        max_uncommitted: ingest.max_uncommitted_time,
    }
}

fn bytes(size: bytesize::ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
