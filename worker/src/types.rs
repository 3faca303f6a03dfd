//! What each data type is allowed to do right now: stopped or not, and whether its Kafka key may be trusted.
//!
//! The truth is in MySQL and holds for the whole fleet; every worker reads it when it is given a partition and every
//! few seconds. A stop takes effect here only after the deferred intervals of this worker's partitions are on record.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use reprise_shared::backoff::Backoff;
use reprise_shared::catalog::{Catalog, TypeIndex};
use reprise_shared::ingest_state::{deferred, stops};
use reprise_shared::position::{Offset, TopicId, TopicPartition};
use sqlx::mysql::MySqlPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::source::partition::{Partitions, State};

/// At most so many open deferred intervals are looked at in one round.
const MOST_OPEN: u32 = 10_000;

#[derive(Debug, Default)]
struct Flags {
    stopped: AtomicBool,
    in_key_off: AtomicBool,
    /// This worker found out that the key cannot be trusted, and MySQL does not have that yet.
    in_key_unwritten: AtomicBool,
    reason: Mutex<String>,
}

/// The state of all data types in this worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Types(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    catalog: Arc<Catalog>,
    flags: Vec<Flags>,
    pool: MySqlPool,
    partitions: Partitions,
    mismatches: mpsc::Sender<TypeIndex>,
    /// Held while the flags are changed, so that an older look at MySQL never undoes a newer stop.
    changing: tokio::sync::Mutex<()>,
}

/// Keeps [`Types`] current. Run it beside the pipeline.
#[derive(Debug)]
pub struct Keeper {
    types: Types,
    mismatches: mpsc::Receiver<TypeIndex>,
    interval: Duration,
}

/// Makes the state of all types, everything running, and the task that keeps it current.
pub fn new(catalog: Arc<Catalog>, pool: MySqlPool, partitions: Partitions, interval: Duration) -> (Types, Keeper) {
    let flags = catalog
        .data_types
        .iter()
        .map(|data_type| Flags {
            in_key_off: AtomicBool::new(!data_type.in_key),
            ..Flags::default()
        })
        .collect();
    // One slot per type is enough: a type is turned off once.
    let (mismatches, received) = mpsc::channel(catalog.data_types.len().max(1));
    let types = Types(Arc::new(Shared {
        catalog,
        flags,
        pool,
        partitions,
        mismatches,
        changing: tokio::sync::Mutex::new(()),
    }));
    let keeper = Keeper {
        types: types.clone(),
        mismatches: received,
        interval,
    };
    (types, keeper)
}

impl Types {
    /// Tells whether a type is stopped: its records complete as deferred.
    #[inline]
    pub fn is_stopped(&self, data_type: TypeIndex) -> bool {
        self.0.flags[data_type.0].stopped.load(Ordering::Acquire)
    }

    /// Tells whether the filter may judge a record of this type by its Kafka key alone.
    #[inline]
    pub fn trusts_key(&self, data_type: TypeIndex) -> bool {
        !self.0.flags[data_type.0].in_key_off.load(Ordering::Acquire)
    }

    /// Lists the stopped types with their reasons.
    pub fn stopped(&self) -> Vec<(TypeIndex, String)> {
        let flags = self.0.flags.iter().enumerate();
        flags
            .filter(|(_, flags)| flags.stopped.load(Ordering::Acquire))
            .map(|(index, flags)| (TypeIndex(index), flags.reason.lock().clone()))
            .collect()
    }

    /// Stops a type in the whole fleet. Returns once the stop and the deferred intervals of this worker's partitions
    /// are durable; tries without end, since nothing may pass over a record before that.
    pub async fn stop(&self, data_type: TypeIndex, reason: &str, detail: &str) {
        let name = &self.0.catalog.data_type(data_type).name;
        tracing::error!(data_type.name = name, stop.reason = reason, detail, "data type stopped");
        let _changing = self.0.changing.lock().await;
        retry("stop type", || stops::stop_type(&self.0.pool, name, reason, detail)).await;
        retry("defer type", || self.take_effect(data_type, reason)).await;
    }

    /// Makes a stop that is on record take effect in this worker.
    async fn take_effect(&self, data_type: TypeIndex, reason: &str) -> sqlx::Result<()> {
        let topic = &self.0.catalog.data_type(data_type).topic;
        let owned = self.0.partitions.view(|partition, owned| match &owned.state {
            State::Reading(stretch) if partition.topic == *topic => {
                Some((partition.clone(), stretch.topic_id.clone(), owned.queue.completed()))
            }
            _ => None,
        });
        for (partition, topic_id, completed) in owned.into_iter().flatten() {
            self.defer(data_type, &partition, &topic_id, completed, completed, reason)
                .await?;
        }
        let flags = &self.0.flags[data_type.0];
        reason.clone_into(&mut flags.reason.lock());
        flags.stopped.store(true, Ordering::Release);
        metrics::type_stopped(&self.0.catalog.data_type(data_type).name, reason);
        Ok(())
    }

    /// Returns why a type is stopped, or was stopped last.
    pub fn reason(&self, data_type: TypeIndex) -> String {
        self.0.flags[data_type.0].reason.lock().clone()
    }

    /// Puts `[start, end)` on record as deferred for one type of one partition.
    pub async fn defer(
        &self,
        data_type: TypeIndex,
        partition: &TopicPartition,
        topic_id: &TopicId,
        start: Offset,
        end: Offset,
        reason: &str,
    ) -> sqlx::Result<()> {
        let name = &self.0.catalog.data_type(data_type).name;
        deferred::cover(&self.0.pool, name, partition, topic_id, start, end, reason).await
    }

    /// Opens the deferred intervals of a partition that is about to be read, for every type that is stopped.
    pub async fn admit(&self, partition: &TopicPartition, topic_id: &TopicId, start: Offset) -> sqlx::Result<()> {
        self.refresh().await?;
        for (data_type, reason) in self.stopped() {
            if self.0.catalog.data_type(data_type).topic == partition.topic {
                self.defer(data_type, partition, topic_id, start, start, &reason)
                    .await?;
            }
        }
        Ok(())
    }

    /// Reports that key and id of a record disagree: from now on the id alone decides, in this worker at once and in
    /// the fleet as soon as MySQL has it.
    pub fn key_disagrees(&self, data_type: TypeIndex) {
        let flags = &self.0.flags[data_type.0];
        if self.trusts_key(data_type) && !flags.in_key_unwritten.swap(true, Ordering::AcqRel) {
            flags.in_key_off.store(true, Ordering::Release);
            let name = &self.0.catalog.data_type(data_type).name;
            tracing::error!(
                data_type.name = name,
                "kafka key and id disagree: the key is not trusted any more; records that the filter passed over by \
                 their key should be replayed"
            );
            metrics::key_disagreed(name);
            // A full channel holds this very type already.
            let _ = self.0.mismatches.try_send(data_type);
        }
    }

    async fn refresh(&self) -> sqlx::Result<()> {
        let _changing = self.0.changing.lock().await;
        let states = stops::type_states(&self.0.pool).await?;
        for state in states {
            let Some(data_type) = self.0.catalog.find_data_type(&state.data_type) else {
                continue;
            };
            let flags = &self.0.flags[data_type.0];
            let distrusted = state.in_key_off || !self.0.catalog.data_type(data_type).in_key;
            flags.in_key_off.store(distrusted, Ordering::Release);
            // What MySQL does not have yet must not be undone by it. Looked at last, since it may come meanwhile.
            if flags.in_key_unwritten.load(Ordering::Acquire) {
                flags.in_key_off.store(true, Ordering::Release);
            }
            match (flags.stopped.load(Ordering::Acquire), state.stopped) {
                (false, true) => {
                    tracing::warn!(
                        data_type.name = state.data_type,
                        stop.reason = state.reason,
                        "data type is stopped"
                    );
                    self.take_effect(data_type, &state.reason).await?;
                }
                (true, false) => {
                    // Records that were passed over until now stay deferred: their chunks say so.
                    flags.stopped.store(false, Ordering::Release);
                    metrics::type_resumed(&state.data_type, &self.reason(data_type));
                    tracing::info!(data_type.name = state.data_type, "data type goes on");
                }
                _ => {}
            }
        }
        self.close_deferred().await
    }

    /// Closes the deferred intervals of types that go on, in the partitions that this worker reads, once everything
    /// up to their ends is durable. Should a chunk that was delivered before still hold deferred records, a new
    /// interval is opened for it and closed in turn.
    async fn close_deferred(&self) -> sqlx::Result<()> {
        for open in deferred::open(&self.0.pool, MOST_OPEN).await? {
            let data_type = self.0.catalog.find_data_type(&open.data_type);
            if data_type.is_none_or(|data_type| self.is_stopped(data_type)) {
                continue;
            }
            let is_done = self.0.partitions.view(|partition, owned| match &owned.state {
                State::Reading(stretch) if *partition == open.partition => {
                    stretch.topic_id != open.topic_id || owned.queue.completed() >= open.end
                }
                _ => false,
            });
            if is_done.contains(&true) {
                deferred::close(&self.0.pool, open.id, open.end).await?;
            }
        }
        Ok(())
    }
}

impl Keeper {
    /// Reads the recorded state every interval and writes what this worker found out, until shutdown. Cancel-safe.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(data_type) = self.mismatches.recv() => {
                    let name = &self.types.0.catalog.data_type(data_type).name;
                    let _changing = self.types.0.changing.lock().await;
                    retry("turn in_key off", || stops::turn_in_key_off(&self.types.0.pool, name)).await;
                    self.types.0.flags[data_type.0].in_key_unwritten.store(false, Ordering::Release);
                }
                _ = ticks.tick() => {
                    if let Err(error) = self.types.refresh().await {
                        tracing::warn!(%error, "read type states");
                    }
                }
            }
        }
    }
}

/// Repeats until it succeeds, waiting up to 30 s between tries.
pub(crate) async fn retry<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    step: &'static str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let mut waits = Backoff::default().waits();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => {
                let delay = waits.next_wait();
                tracing::warn!(step, %error, ?delay, "retrying");
                tokio::time::sleep(delay).await;
            }
        }
    }
}
