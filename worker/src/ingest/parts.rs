//! Starts the parts, from the database end to the source, and connects them.

use std::convert::Infallible;
use std::sync::Arc;

use crossbeam_channel::Sender;
use rdkafka::consumer::Consumer;
use reprise_shared::catalog::Catalog;
use reprise_shared::clock::Clock;
use reprise_shared::decode::{self, Plans};
use reprise_shared::health::Readiness;
use reprise_shared::heartbeat::Role;
use reprise_shared::kafka::calls::Calls;
use reprise_shared::kafka::client::{client_id_of, consumer_config};
use reprise_shared::ledger::{self, Marker};
use reprise_shared::matching::TopicPlan;
use reprise_shared::supervise::{OnCancel, Supervisor};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{server_watch, watch};
use crate::beat::Beat;
use crate::budget::Budget;
use crate::chunk::Chunk;
use crate::config::Config;
use crate::control::Control;
use crate::decode_stage::Stage;
use crate::lanes::{self, Lane, Lanes};
use crate::misses::Resolver;
use crate::progress::tick::{self, Backlog, Progress};
use crate::ready::Ready;
use crate::run::Error;
use crate::source::admission::{Admission, Judge};
use crate::source::intake::Intake;
use crate::source::missing_topics::MissingTopics;
use crate::source::partition::Partitions;
use crate::source::reader::{Command, Reader, Wiring};
use crate::source::rebalance::{Context, LiveConsumer};
use crate::thread::{self, Running};
use crate::types::{self, Types};
use crate::upkeep::{lookups, task};
use crate::{lookup_changes, source};

/// How long the queues to admission and progress may grow; both are served at once.
const REQUESTS: usize = 4_096;
/// Partitions whose ledger goes in one round trip.
const PARTITIONS_PER_CALL: usize = 64;

/// What runs, as far as an orderly stop needs it.
pub(super) struct Parts {
    pub(super) commands: Sender<Command>,
    pub(super) reader: Running<source::reader::Error>,
    pub(super) decoders: Vec<Running<Infallible>>,
    pub(super) lanes: Lanes,
    pub(super) lanes_drained: Vec<oneshot::Receiver<()>>,
    /// Cancelled when the time for an orderly stop is up.
    pub(super) abandon: CancellationToken,
    pub(super) consumer: Arc<LiveConsumer>,
    pub(super) readiness: Readiness,
    pub(super) beat: Beat,
}

/// What the parts share while they are being started.
struct Start<'a> {
    config: &'a Config,
    catalog: Arc<Catalog>,
    clock: Clock,
    supervisor: &'a Supervisor,
    ready: Ready,
    plans: Arc<Plans>,
    types: Types,
    partitions: Partitions,
    budget: Arc<Budget>,
    payload_limits: decode::Limits,
    worker_id: String,
    /// Cancelled when the time for an orderly stop is up.
    abandon: CancellationToken,
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
    let ingest = &config.ingest;
    let partitions = Partitions::default();
    let pool = ready.database.pool().clone();
    let (types, keeper) = types::new(Arc::clone(&catalog), pool, partitions.clone(), ingest.type_states_poll);
    task(
        supervisor,
        "type states",
        OnCancel::Abort,
        keeper.run(supervisor.shutdown_token()),
    );
    task(
        supervisor,
        "database server",
        OnCancel::Abort,
        server_watch::run(ready.database.pool().clone(), supervisor.shutdown_token()),
    );
    let start = Start {
        plans: Arc::new(Plans::compile(Arc::clone(&catalog)).map_err(Error::Plan)?),
        budget: Arc::new(Budget::new(
            ingest.max_rows_in_flight,
            bytes(ingest.max_bytes_in_flight),
        )),
        payload_limits: decode::Limits {
            max_payload: bytes(ingest.max_record),
            max_depth: ingest.max_depth,
            max_rows: ingest.max_rows_per_record,
        },
        worker_id: uuid::Uuid::now_v7().simple().to_string(),
        abandon: CancellationToken::new(),
        config,
        catalog,
        clock,
        supervisor,
        ready,
        types,
        partitions,
    };
    let reporter = lookups(start.supervisor, &start.catalog, &start.ready);
    let (lanes, lanes_drained) = start.lanes(reporter)?;
    let (chunks, decoders) = start.decoders(&lanes)?;
    start.resolver();
    let consumer = Arc::new(subscribe(config, &start.catalog, &start.worker_id)?);
    let (commands, reader) = start.source(&consumer, chunks)?;
    let beat = start.watch(&readiness, &consumer);
    let abandon = start.abandon;
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

impl Start<'_> {
    /// Starts the lanes.
    fn lanes(&self, lookup_changes: lookup_changes::Reporter) -> Result<(Lanes, Vec<oneshot::Receiver<()>>), Error> {
        let control = Control {
            types: self.types.clone(),
            lookup_changes,
        };
        let (lanes, tasks) = Lanes::new(lanes::Setup {
            catalog: Arc::clone(&self.catalog),
            config: self.config.lanes.clone(),
            url: self.config.mysql.url_with_tls(),
            database: self.ready.database.clone(),
            budget: Arc::clone(&self.budget),
            control: Arc::new(control),
            clock: self.clock.clone(),
            task: None,
        })
        .map_err(|error| Error::Setting {
            what: "mysql.url",
            source: Box::new(error),
        })?;
        let drained = tasks
            .into_iter()
            .map(|lane| run_lane(self.supervisor, lane, self.abandon.clone()))
            .collect();
        Ok((lanes, drained))
    }

    /// Starts the decode threads; returns where chunks go.
    #[expect(clippy::type_complexity, reason = "a pair that is taken apart at once")]
    fn decoders(&self, lanes: &Lanes) -> Result<(Sender<Arc<Chunk>>, Vec<Running<Infallible>>), Error> {
        let ingest = &self.config.ingest;
        let (chunks, queue) = crossbeam_channel::bounded(ingest.decode_queue);
        let stage = Stage {
            plans: Arc::clone(&self.plans),
            judge: self.types.clone(),
            lookups: self.ready.lookups.clone(),
            lanes: lanes.clone(),
            budget: Arc::clone(&self.budget),
            limits: self.payload_limits,
            clock: self.clock.clone(),
            runtime: tokio::runtime::Handle::current(),
            shutdown: self.abandon.clone(),
        };
        let mut decoders = Vec::with_capacity(ingest.decode_threads);
        for number in 0..ingest.decode_threads {
            let (stage, queue) = (stage.clone(), queue.clone());
            let shutdown = self.supervisor.shutdown_token();
            let work = move || {
                // However it ends, the worker cannot go on without it.
                let _ends_the_worker = shutdown.drop_guard();
                stage.run(&queue);
                Ok(())
            };
            decoders.push(thread::spawn(&format!("decode-{number}"), work).map_err(Error::Thread)?);
        }
        Ok((chunks, decoders))
    }

    /// Starts the resolver of lookup misses.
    fn resolver(&self) {
        let ingest = &self.config.ingest;
        let resolver = Resolver {
            catalog: Arc::clone(&self.catalog),
            plans: Arc::clone(&self.plans),
            types: self.types.clone(),
            lookups: self.ready.lookups.clone(),
            whitelist: self.ready.whitelist.clone(),
            database: self.ready.database.clone(),
            limits: self.payload_limits,
            clock: self.clock.clone(),
            worker_id: self.worker_id.clone(),
            interval: ingest.resolve_misses,
            park_after: ingest.park_misses_after,
            max_open: ingest.max_open_misses,
        };
        task(
            self.supervisor,
            "lookup misses",
            OnCancel::Wait,
            resolver.run(self.supervisor.shutdown_token()),
        );
    }

    /// Starts admission, progress and, last, the reader.
    fn source(
        &self,
        consumer: &Arc<LiveConsumer>,
        chunks: Sender<Arc<Chunk>>,
    ) -> Result<(Sender<Command>, Running<source::reader::Error>), Error> {
        let calls = |name| Calls::start(name, Arc::clone(consumer)).map_err(Error::Thread);
        let shutdown = self.supervisor.shutdown_token();
        let backlog = Arc::new(Backlog::default());
        // Admission and progress must never wait for the reader, which may be waiting for them: its commands are few,
        // a handful per owned partition.
        let (commands, received) = crossbeam_channel::unbounded();
        let (admission_queue, events) = mpsc::channel(REQUESTS);
        let (finishes, finish_queue) = mpsc::channel(16);
        let admission = Admission {
            judge: Judge {
                calls: calls("admission")?,
                database: self.ready.database.clone(),
                start_at: self.config.ingest.start_at,
                marker: Marker::new(self.ready.redis.clone()),
                clock: self.clock.clone(),
            },
            pool: self.ready.database.pool().clone(),
            partitions: self.partitions.clone(),
            types: self.types.clone(),
            catalog: Arc::clone(&self.catalog),
            commands: commands.clone(),
        };
        task(
            self.supervisor,
            "admission",
            OnCancel::Abort,
            admission.run(events, shutdown.clone()),
        );
        let missing_topics = MissingTopics {
            calls: calls("topics")?,
            pool: self.ready.database.pool().clone(),
            partitions: self.partitions.clone(),
            catalog: Arc::clone(&self.catalog),
            commands: commands.clone(),
            clock: self.clock.clone(),
        };
        task(
            self.supervisor,
            "missing topics",
            OnCancel::Abort,
            missing_topics.run(shutdown.clone()),
        );
        let progress = Progress {
            catalog: Arc::clone(&self.catalog),
            partitions: self.partitions.clone(),
            types: self.types.clone(),
            ledger: ledger::Writer::new(self.ready.redis.clone(), PARTITIONS_PER_CALL),
            pool: self.ready.database.pool().clone(),
            commits: calls("commit")?,
            calls: calls("check")?,
            commands: commands.clone(),
            backlog: Arc::clone(&backlog),
            clock: self.clock.clone(),
            limits: tick_limits(self.config),
        };
        task(self.supervisor, "progress", OnCancel::Wait, progress.run(finish_queue));
        let wiring = Wiring {
            partitions: self.partitions.clone(),
            commands: received,
            chunks,
            admission: admission_queue,
            finishes,
            budget: Arc::clone(&self.budget),
            backlog,
            whitelist: self.ready.whitelist.clone(),
            clock: self.clock.clone(),
        };
        let intake = Intake::new(self.types.clone(), self.payload_limits.max_payload);
        let plans = TopicPlan::compile(&self.catalog);
        let reader = Reader::new(Arc::clone(consumer), wiring, intake, plans, self.config.ingest.drain);
        let work = move || {
            let _ends_the_worker = shutdown.drop_guard();
            reader.run()
        };
        Ok((commands, thread::spawn("reader", work).map_err(Error::Thread)?))
    }

    /// Starts the heartbeat.
    fn watch(&self, readiness: &Readiness, consumer: &Arc<LiveConsumer>) -> Beat {
        let ingest = &self.config.ingest;
        let beat = Beat::new(
            self.ready.redis.clone(),
            ingest.heartbeat,
            (self.worker_id.clone(), Role::Ingest),
            &self.catalog,
            self.ready.whitelist.clone(),
            self.clock.clone(),
        );
        let watch = watch::Watch::new(
            beat.clone(),
            (self.partitions.clone(), self.clock.clone()),
            readiness,
            self.types.clone(),
            Arc::clone(consumer),
            ingest.stall_after,
        );
        let shutdown = self.supervisor.shutdown_token();
        task(
            self.supervisor,
            "heartbeat",
            OnCancel::Abort,
            watch.run(ingest.heartbeat, shutdown),
        );
        beat
    }
}

fn run_lane(supervisor: &Supervisor, lane: Lane, abandon: CancellationToken) -> oneshot::Receiver<()> {
    let (drained, wait) = oneshot::channel();
    task(supervisor, "lane", OnCancel::Wait, async move {
        lane.run(abandon).await;
        // The stop may have given up waiting.
        let _ = drained.send(());
    });
    wait
}

fn subscribe(config: &Config, catalog: &Catalog, worker_id: &str) -> Result<LiveConsumer, Error> {
    let ingest = &config.ingest;
    let kibibytes = (ingest.fetch_ahead.as_u64() / 1_024).to_string();
    let mut settings = consumer_config(&config.kafka, &ingest.group);
    settings
        .set("client.id", client_id_of(&config.kafka, worker_id))
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
