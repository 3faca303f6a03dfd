//! The partitions that this worker owns: shared between the reader, admission and progress.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use reprise_shared::ingest_state::stops::{PartitionStop, PartitionStopReason};
use reprise_shared::position::{Offset, TopicPartition};

use crate::chunk::{Completion, Stretch};
use crate::progress::queue::Queue;

/// Counts assignments, so that what belongs to an earlier one is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// What an owned partition is doing.
#[derive(Clone, Debug)]
pub enum State {
    /// Admission is finding out where and whether to read.
    Admitting,
    /// It is read.
    Reading(Arc<Stretch>),
    /// It is not read until an operator acts.
    Stopped {
        /// Why.
        stop: PartitionStop,
        /// What was delivered before still moves on, where it belongs to the topic as it is.
        draining: Option<Arc<Stretch>>,
    },
}

impl State {
    /// Returns the stretch whose chunks may enter the ledger and be committed.
    pub fn stretch(&self) -> Option<&Arc<Stretch>> {
        match self {
            Self::Admitting => None,
            Self::Reading(stretch) => Some(stretch),
            Self::Stopped { draining, .. } => draining.as_ref(),
        }
    }
}

/// One owned partition.
#[derive(Debug)]
pub struct Owned {
    /// This assignment.
    pub epoch: Epoch,
    /// What it is doing.
    pub state: State,
    /// Its chunks in delivered order and how far they are complete.
    pub queue: Queue,
    /// The position that Kafka has.
    pub committed: Option<Offset>,
}

/// All owned partitions. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Partitions(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next_epoch: u64,
    owned: HashMap<TopicPartition, Owned>,
}

impl Partitions {
    /// Adds a partition that was just assigned.
    pub fn assign(&self, partition: TopicPartition) -> Epoch {
        let mut table = self.0.lock();
        table.next_epoch += 1;
        let epoch = Epoch(table.next_epoch);
        let owned = Owned {
            epoch,
            state: State::Admitting,
            queue: Queue::default(),
            committed: None,
        };
        table.owned.insert(partition, owned);
        epoch
    }

    /// Drops a partition that was taken away. What still happens to its chunks is not counted any more.
    pub fn revoke(&self, partition: &TopicPartition) {
        if let Some(owned) = self.0.lock().owned.remove(partition)
            && let Some(stretch) = owned.state.stretch()
        {
            stretch.abandoned.store(true, Ordering::Release);
        }
    }

    /// Works on one partition of one assignment; `None` when it is not owned under that epoch any more.
    pub fn with<R>(&self, partition: &TopicPartition, epoch: Epoch, work: impl FnOnce(&mut Owned) -> R) -> Option<R> {
        self.0
            .lock()
            .owned
            .get_mut(partition)
            .filter(|owned| owned.epoch == epoch)
            .map(work)
    }

    /// Marks a partition as read from `start` on.
    pub fn read(&self, partition: &TopicPartition, epoch: Epoch, stretch: Arc<Stretch>, start: Offset) -> bool {
        self.with(partition, epoch, |owned| {
            owned.queue = Queue::starting_at(start);
            owned.committed = Some(start);
            owned.state = State::Reading(stretch);
        })
        .is_some()
    }

    /// Marks a partition as stopped. Returns whether it was not stopped before.
    pub fn stop(&self, partition: &TopicPartition, epoch: Epoch, stop: PartitionStop) -> bool {
        self.with(partition, epoch, |owned| {
            let fresh = !matches!(owned.state, State::Stopped { .. });
            let foreign = matches!(
                stop.reason,
                PartitionStopReason::TopicRecreated | PartitionStopReason::TopicMissing
            );
            let mut draining = owned.state.stretch().cloned();
            if foreign && let Some(stretch) = draining.take() {
                stretch.abandoned.store(true, Ordering::Release);
            }
            owned.state = State::Stopped { stop, draining };
            fresh
        })
        .unwrap_or(false)
    }

    /// Begins anew with a partition that is stopped and has nothing in flight, as if it was just assigned.
    pub fn renew(&self, partition: &TopicPartition) -> Option<Epoch> {
        let mut table = self.0.lock();
        let next_epoch = Epoch(table.next_epoch + 1);
        let owned = table.owned.get_mut(partition)?;
        let is_idle = owned.queue.is_empty() || owned.state.stretch().is_none();
        if !matches!(owned.state, State::Stopped { .. }) || !is_idle {
            return None;
        }
        owned.epoch = next_epoch;
        owned.state = State::Admitting;
        owned.queue = Queue::default();
        table.next_epoch = next_epoch.0;
        Some(next_epoch)
    }

    /// Queues a chunk in delivered order; `false` when its partition was taken away or stopped meanwhile.
    pub fn queue(&self, partition: &TopicPartition, epoch: Epoch, chunk: Arc<Completion>) -> bool {
        self.with(partition, epoch, |owned| {
            let reading = matches!(owned.state, State::Reading(_));
            if reading {
                owned.queue.push(chunk);
            }
            reading
        })
        .unwrap_or(false)
    }

    /// Lists all owned partitions through `view`.
    pub fn view<R>(&self, mut view: impl FnMut(&TopicPartition, &Owned) -> R) -> Vec<R> {
        self.0
            .lock()
            .owned
            .iter()
            .map(|(partition, owned)| view(partition, owned))
            .collect()
    }
}
