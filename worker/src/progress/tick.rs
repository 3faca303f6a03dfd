//! One tick: complete chunks → ledger → Kafka commit, in that order and never another (I3).
//!
//! A crash between any two steps costs work, never truth: the ledger never has what MySQL lacks, and Kafka is never
//! told what the ledger lacks. Every step that fails leaves the later ones undone; the next tick begins again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rdkafka::consumer::{CommitMode, Consumer};
use reprise_shared::catalog::Catalog;
use reprise_shared::clock::Clock;
use reprise_shared::kafka::calls::Calls;
use reprise_shared::ledger::{self, Millis, PartitionLedger, RunId};
use reprise_shared::position::{Offset, TopicPartition};
use reprise_shared::telemetry::chain;
use sqlx::mysql::MySqlPool;
use tokio::sync::mpsc;

use super::account::account;
use crate::chunk::Stretch;
use crate::metrics;
use crate::source::partition::{Epoch, Partitions};
use crate::source::reader::Command;
use crate::source::rebalance::{LiveConsumer, list};
use crate::types::Types;

/// How much is processed and not committed, shared with the reader.
#[derive(Debug, Default)]
pub struct Backlog {
    full: AtomicBool,
    records: AtomicU64,
}

impl Backlog {
    /// Tells whether so much waits for ledger and commit that the intake must stop.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Returns how many processed records the ledger does not have.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}

/// Asks for everything delivered of some partitions to be finished, because they will be given up.
#[derive(Debug)]
pub struct Finish {
    partitions: Vec<TopicPartition>,
    deadline: Duration,
    done: Sender<bool>,
}

impl Finish {
    /// Makes a request and the channel of its answer: whether everything was committed in time. `deadline` is by the
    /// monotonic clock.
    pub fn new(partitions: Vec<TopicPartition>, deadline: Duration) -> (Self, Receiver<bool>) {
        let (done, finished) = crossbeam_channel::bounded(1);
        (
            Self {
                partitions,
                deadline,
                done,
            },
            finished,
        )
    }
}

/// Limits of the tick.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time between ticks.
    pub interval: Duration,
    /// One Kafka call may take this long.
    pub call: Duration,
    /// Segments and the bound on what Redis lacks.
    pub ledger: ledger::Limits,
    /// A commit that lags behind the ledger longer than this holds the intake.
    pub max_uncommitted: Duration,
}

/// Moves progress of all owned partitions.
pub struct Progress {
    /// The declared types.
    pub catalog: Arc<Catalog>,
    /// Owned partitions.
    pub partitions: Partitions,
    /// The state of all types.
    pub types: Types,
    /// Writes the ledger.
    pub ledger: ledger::Writer,
    /// Remembers stops.
    pub pool: MySqlPool,
    /// Runs commits, apart from everything else, since one can hang.
    pub commits: Calls<LiveConsumer>,
    /// Runs the other Kafka calls.
    pub calls: Calls<LiveConsumer>,
    /// The reader.
    pub commands: Sender<Command>,
    /// Shared with the reader.
    pub backlog: Arc<Backlog>,
    /// Time.
    pub clock: Clock,
    /// Limits.
    pub limits: Limits,
}

struct Run {
    ledger: PartitionLedger,
    stretch: Arc<Stretch>,
}

/// How far a partition was delivered at one moment.
pub(super) struct Delivered {
    pub(super) partition: TopicPartition,
    pub(super) epoch: Epoch,
    pub(super) stretch: Arc<Stretch>,
    delivered: Offset,
}

/// How far a tick came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tick {
    /// Everything that was delivered before it is committed.
    Whole,
    /// What was complete is committed; something is still in flight.
    Part,
    /// Ledger or commit did not work.
    Failed,
}

type Runs = HashMap<(TopicPartition, Epoch), Run>;

impl Progress {
    /// Ticks until the reader is gone. The last request of the reader finishes everything, so there is nothing to do
    /// at the end.
    pub async fn run(self, mut finishes: mpsc::Receiver<Finish>) {
        let mut runs = Runs::new();
        let mut last_commit = self.clock.monotonic();
        let mut ticks = tokio::time::interval(self.limits.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                request = finishes.recv() => match request {
                    Some(request) => self.finish(&mut runs, request).await,
                    None => return,
                },
                _ = ticks.tick() => {
                    let tick = self.tick(&mut runs, |_| true).await;
                    self.measure(&runs, tick != Tick::Failed, &mut last_commit);
                }
            }
        }
    }

    /// Repeats ticks for some partitions until all they delivered is committed or time is up.
    async fn finish(&self, runs: &mut Runs, request: Finish) {
        let chosen = |partition: &TopicPartition| request.partitions.contains(partition);
        let mut done = false;
        while !done && self.clock.monotonic() < request.deadline {
            let waiting = self
                .partitions
                .view(|partition, owned| chosen(partition) && !owned.queue.all_complete());
            if waiting.contains(&true) {
                tokio::time::sleep(Duration::from_millis(2)).await;
                continue;
            }
            let left = request.deadline.saturating_sub(self.clock.monotonic());
            done = tokio::time::timeout(left, self.tick(runs, chosen)).await == Ok(Tick::Whole);
            if !done {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        // A reader that stopped waiting does not want the answer.
        let _ = request.done.send(done);
    }

    /// Does all steps for the chosen partitions. Dropped at an await, it has moved nothing that it did not finish.
    async fn tick(&self, runs: &mut Runs, chosen: impl Fn(&TopicPartition) -> bool) -> Tick {
        let delivered = self.delivered(&chosen);
        runs.retain(|(partition, epoch), _| self.partitions.with(partition, *epoch, |_| ()).is_some());
        if delivered.is_empty() {
            return Tick::Whole;
        }
        // Begun after the last of these records was delivered: what it says of the topic holds for all of them.
        let (begun, asked) = (self.clock.monotonic(), delivered.len());
        let checked = self.check_topics(delivered).await;
        metrics::tick(
            "check topic ids",
            checked.is_some(),
            self.clock.monotonic().saturating_sub(begun),
        );
        let Some(checked) = checked else { return Tick::Failed };
        let mut whole = checked.len() == asked;
        for one in &checked {
            whole &= self.take(runs, one).await;
        }
        // What was not found to be the accepted topic just now must not move.
        let sure = |partition: &TopicPartition| checked.iter().any(|one| one.partition == *partition);
        let written = timed("write ledger", &self.clock, self.write_ledger(runs, &sure)).await;
        let committed = timed("commit", &self.clock, self.commit(runs, &sure)).await;
        match (written && committed, whole) {
            (false, _) => Tick::Failed,
            (true, false) => Tick::Part,
            (true, true) => Tick::Whole,
        }
    }

    fn delivered(&self, chosen: &impl Fn(&TopicPartition) -> bool) -> Vec<Delivered> {
        let view = self.partitions.view(|partition, owned| {
            let stretch = owned.state.stretch().filter(|_| chosen(partition))?;
            Some(Delivered {
                partition: partition.clone(),
                epoch: owned.epoch,
                stretch: Arc::clone(stretch),
                delivered: owned.queue.delivered(),
            })
        });
        view.into_iter().flatten().collect()
    }

    /// Takes complete chunks of one partition into its run's ledger. Returns whether that was all of them.
    async fn take(&self, runs: &mut Runs, one: &Delivered) -> bool {
        let ready = self.partitions.with(&one.partition, one.epoch, |owned| {
            (owned.queue.completed(), owned.queue.ready(one.delivered))
        });
        let Some((from, chunks)) = ready else { return true };
        let Some(last) = chunks.last() else {
            return from >= one.delivered;
        };
        // What the chunks say counts, and not which types are stopped by now.
        let mut deferred = BTreeSet::new();
        for chunk in &chunks {
            let tallies = chunk.tallies();
            let of_types = tallies.iter().filter(|(_, tally)| tally.records.deferred > 0);
            deferred.extend(of_types.filter_map(|(data_type, _)| *data_type));
        }
        for data_type in deferred {
            let reason = self.types.reason(data_type);
            // Before the ledger may say so, the interval is on record as owed (durable, so try until it is).
            crate::types::retry("defer interval", || {
                let topic_id = &one.stretch.topic_id;
                self.types
                    .defer(data_type, &one.partition, topic_id, from, last.end, &reason)
            })
            .await;
        }
        // Only now they leave the queue: a tick that is dropped at an await above has changed nothing.
        self.partitions
            .with(&one.partition, one.epoch, |owned| owned.queue.take(chunks.len()));
        let run = runs.entry((one.partition.clone(), one.epoch)).or_insert_with(|| Run {
            ledger: self.new_ledger(one),
            stretch: Arc::clone(&one.stretch),
        });
        for chunk in &chunks {
            let tally = account(&self.catalog, chunk);
            if let Err(error) = run.ledger.add(&tally) {
                tracing::error!(%error, partition = %one.partition, "a chunk did not fit into the ledger");
            }
        }
        last.end >= one.delivered
    }

    fn new_ledger(&self, one: &Delivered) -> PartitionLedger {
        let identity = ledger::Identity {
            partition: one.partition.clone(),
            topic_id: one.stretch.topic_id.clone(),
            run: RunId::new(uuid::Uuid::now_v7().simple().to_string()),
            source: ledger::Source::Live,
        };
        let names = self
            .catalog
            .data_types
            .iter()
            .map(|data_type| data_type.name.clone())
            .collect();
        PartitionLedger::new(identity, names, self.limits.ledger)
    }

    async fn write_ledger(&self, runs: &mut Runs, chosen: &impl Fn(&TopicPartition) -> bool) -> bool {
        let now = Millis(self.clock.now().as_millisecond());
        let mut places = Vec::new();
        let mut updates = Vec::new();
        for (place, run) in runs.iter_mut() {
            let foreign = run.stretch.abandoned.load(Ordering::Acquire);
            if chosen(&place.0)
                && !foreign
                && let Some(update) = run.ledger.pending(now)
            {
                places.push(place.clone());
                updates.push(update);
            }
        }
        if updates.is_empty() {
            return true;
        }
        let mut whole = true;
        let results = self.ledger.write(&updates).await;
        for ((place, update), result) in places.iter().zip(&updates).zip(results) {
            match (result, runs.get_mut(place)) {
                (Ok(()), Some(run)) => run.ledger.written(update),
                (Ok(()), None) => {}
                (Err(error), _) => {
                    tracing::warn!(error = %chain(&error), partition = %place.0, "write ledger: the commit waits");
                    whole = false;
                }
            }
        }
        whole
    }

    /// Commits what the ledger has. Returns whether Kafka has all of it.
    async fn commit(&self, runs: &Runs, chosen: &impl Fn(&TopicPartition) -> bool) -> bool {
        let due: Vec<_> = runs
            .iter()
            .filter(|(place, run)| chosen(&place.0) && !run.stretch.abandoned.load(Ordering::Acquire))
            .filter_map(|((partition, epoch), run)| {
                let durable = run.ledger.durable_end()?;
                let behind = self.partitions.with(partition, *epoch, |owned| {
                    owned.committed.is_none_or(|known| known < durable)
                });
                (behind == Some(true)).then(|| (partition.clone(), *epoch, durable))
            })
            .collect();
        if due.is_empty() {
            return true;
        }
        let positions = due
            .iter()
            .map(|(at, _, durable)| (at, rdkafka::Offset::Offset(durable.to_kafka())));
        let positions = match list(positions) {
            Ok(positions) => positions,
            Err(error) => {
                tracing::error!(%error, "list the positions to commit");
                return false;
            }
        };
        let limit = self.limits.call;
        match self
            .commits
            .call(limit, move |consumer| consumer.commit(&positions, CommitMode::Sync))
            .await
        {
            Ok(Ok(())) => {
                for (partition, epoch, durable) in due {
                    self.partitions
                        .with(&partition, epoch, |owned| owned.committed = Some(durable));
                }
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "commit");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "commit");
                false
            }
        }
    }

    /// Shows how much waits, and holds the intake while it is too much.
    fn measure(&self, runs: &Runs, committed: bool, last_commit: &mut Duration) {
        let now = Millis(self.clock.now().as_millisecond());
        if committed {
            *last_commit = self.clock.monotonic();
        }
        let queued: u64 = self.partitions.view(|_, owned| owned.queue.records()).into_iter().sum();
        let waiting = queued + runs.values().map(|run| run.ledger.unwritten_records()).sum::<u64>();
        let over = runs.values().any(|run| run.ledger.is_over_limit(now))
            || waiting >= self.limits.ledger.max_unwritten_records
            || self.clock.monotonic().saturating_sub(*last_commit) >= self.limits.max_uncommitted;
        self.backlog.records.store(waiting, Ordering::Relaxed);
        self.backlog.full.store(over, Ordering::Relaxed);
    }
}

async fn timed(step: &'static str, clock: &Clock, work: impl Future<Output = bool>) -> bool {
    let begun = clock.monotonic();
    let done = work.await;
    metrics::tick(step, done, clock.monotonic().saturating_sub(begun));
    done
}
