//! What a plan comes to.

use std::time::Duration;

use jiff::Timestamp;
use reprise_shared::jobs::model::{self, MissingReason};
use reprise_shared::ledger::{Interval, Millis};
use reprise_shared::position::{Offset, TopicGeneration, TopicId, TopicName, TopicPartition};
use serde::{Deserialize, Serialize};

use super::segments::length;
use super::wanted::Source;

/// What a job is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// The slices, by data type, partition and start.
    pub slices: Vec<Slice>,
    /// The lists of ids that slices name by their place.
    pub filters: Vec<Vec<String>>,
    /// What Kafka has deleted, or what is not there any more for another reason.
    pub missing: Vec<Missing>,
    /// What is read, by data type and partition.
    pub partitions: Vec<Partition>,
    /// What else one should know.
    pub notes: Vec<String>,
}

impl Draft {
    /// Returns how many positions all slices have.
    pub fn positions(&self) -> u64 {
        length(self.slices.iter().map(Slice::interval))
    }

    /// Returns how many records are expected.
    pub fn records(&self) -> u64 {
        let partitions = self.partitions.iter();
        partitions.fold(0, |sum, partition| sum.saturating_add(partition.records))
    }

    /// Returns how many positions the ledger does not cover.
    pub fn uncovered(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.uncovered).sum()
    }

    /// Returns how long reading everything takes at a rate, if there is one.
    pub fn duration_at(&self, rate: Option<u64>) -> Option<Duration> {
        let rate = rate.filter(|rate| *rate > 0)?;
        Some(Duration::from_secs(self.positions().div_ceil(rate)))
    }
}

/// One slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The data type; empty: all.
    pub data_type: String,
    /// The topic.
    pub topic: TopicName,
    /// The topic's id.
    pub topic_id: TopicId,
    /// Its generation.
    pub generation: TopicGeneration,
    /// The partition.
    pub partition: reprise_shared::position::Partition,
    /// The first offset.
    pub start: Offset,
    /// The offset after the last one.
    pub end: Offset,
    /// The list of ids that pass; `None`: all.
    pub filter: Option<u32>,
    /// Only records from this time on.
    pub record_time_from: Option<Millis>,
    /// Only records before this time.
    pub record_time_to: Option<Millis>,
}

impl Slice {
    /// Returns the positions.
    pub fn interval(&self) -> Interval {
        Interval::new(self.start, self.end)
    }

    /// Returns the partition.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition {
            topic: self.topic.clone(),
            partition: self.partition,
        }
    }
}

impl From<Slice> for model::Slice {
    fn from(slice: Slice) -> Self {
        let time = |time: Millis| Timestamp::from_millisecond(time.0).ok();
        Self {
            topic_partition: slice.topic_partition(),
            data_type: slice.data_type,
            topic_id: slice.topic_id,
            generation: slice.generation,
            start: slice.start,
            end: slice.end,
            filter: slice.filter,
            record_time_from: slice.record_time_from.and_then(time),
            record_time_to: slice.record_time_to.and_then(time),
        }
    }
}

/// Positions that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The data type; empty: all.
    pub data_type: String,
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: reprise_shared::position::Partition,
    /// The first offset.
    pub start: Offset,
    /// The offset after the last one.
    pub end: Offset,
    /// Whether the topic was deleted and created again since; otherwise Kafka's retention deleted them.
    pub recreated: bool,
}

impl From<Missing> for model::Missing {
    fn from(missing: Missing) -> Self {
        let reason = if missing.recreated {
            MissingReason::Recreated
        } else {
            MissingReason::Expired
        };
        Self {
            data_type: missing.data_type,
            topic_partition: TopicPartition {
                topic: missing.topic,
                partition: missing.partition,
            },
            start: missing.start,
            end: missing.end,
            reason,
        }
    }
}

/// What is read of one data type in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The data type; empty: all.
    pub data_type: String,
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: reprise_shared::position::Partition,
    /// From the first position to the last.
    pub start: Offset,
    /// The offset after the last one.
    pub end: Offset,
    /// How many of these positions are read.
    pub positions: u64,
    /// How many tasks read them.
    pub tasks: u32,
    /// How many records are expected.
    pub records: u64,
    /// How many positions the ledger does not cover.
    pub uncovered: u64,
    /// Where the positions come from.
    pub source: Source,
}
