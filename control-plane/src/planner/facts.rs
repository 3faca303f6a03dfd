//! What a plan is made from: how partitions and ledger stand, and whom the whitelist let through.

use std::collections::BTreeMap;

use reprise_shared::ledger::{Interval, Millis};
use reprise_shared::position::{Offset, TopicGeneration, TopicId, TopicPartition};
use reprise_shared::whitelist::Version;

use super::ids::Passing;

/// Everything.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The partitions that are looked at, each once.
    pub partitions: Vec<PartitionFacts>,
    /// Whom the plan's ids and the whitelist let through, by data type.
    pub types: BTreeMap<String, TypePassing>,
}

/// Whom is let through of one data type.
#[derive(Clone, Debug)]
pub struct TypePassing {
    /// Independent of ranges: the ids of the request, or the whitelist as it is now.
    pub now: Passing,
    /// By the version that judged a range; `None`: a rebuilt range, or a version that is not on record. For a catch-up:
    /// who passes now and did not then. For a comparison: who was to be written.
    pub by_version: BTreeMap<Option<Version>, Passing>,
}

/// One partition.
#[derive(Clone, Debug)]
pub struct PartitionFacts {
    /// Which.
    pub at: TopicPartition,
    /// The topic's id.
    pub topic_id: TopicId,
    /// Its generation.
    pub generation: TopicGeneration,
    /// What Kafka has: up to the last stable offset.
    pub log: Interval,
    /// How far live traffic is.
    pub committed: Option<Offset>,
    /// The first offset with a time of the window's start or later; `None`: there is none, or no window by record time.
    pub first: Option<Offset>,
    /// No record of the window stands here or later; the log's end when nothing is known.
    pub beyond: Offset,
    /// What the ledger covers of this topic's incarnation.
    pub covered: Vec<Interval>,
    /// The ledger by data type.
    pub ledger: BTreeMap<String, TypeLedger>,
}

/// What the ledger knows of one data type in one partition.
#[derive(Clone, Debug, Default)]
pub struct TypeLedger {
    /// Below this, ranges were purged.
    pub indexed_from: Offset,
    /// The ranges, by start, of this incarnation of the topic.
    pub ranges: Vec<Known>,
    /// What was passed over while the type was stopped, and is owed.
    pub deferred: Vec<Interval>,
}

/// What a plan needs to know of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The positions.
    pub interval: Interval,
    /// How many records it holds.
    pub records: u64,
    /// The first and last of the records' own times.
    pub record_times: Option<(Millis, Millis)>,
    /// The first and last time of processing.
    pub processing_times: (Millis, Millis),
    /// The whitelist that judged it.
    pub whitelist: Option<Version>,
}

impl PartitionFacts {
    /// Returns the positions of the log that live traffic has passed.
    pub fn processed(&self) -> Interval {
        let committed = self.committed.unwrap_or(self.log.start);
        Interval::new(self.log.start, committed.min(self.log.end))
    }

    /// Returns the positions of the log for which the ranges of a type are whole.
    pub fn indexed(&self, ledger: &TypeLedger) -> Vec<Interval> {
        let from = ledger.indexed_from;
        let covered = self.covered.iter();
        covered
            .map(|covered| Interval::new(covered.start.max(from), covered.end))
            .filter(|covered| !covered.is_empty())
            .collect()
    }
}
