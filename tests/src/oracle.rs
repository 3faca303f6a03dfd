//! Says what the tables must hold, by folding the topic in plain code.
//!
//! Nothing here shares code with the pipeline's decode, filter, enrich or sink: what both get wrong in the same way
//! has to be got wrong twice. It knows the three shipped data types and nothing else, keeps everything in memory, and
//! is slow on purpose where slow is simpler.
//!
//! [`Oracle::read_topic`] reads a topic up to the high watermarks of the moment, [`Oracle::fold`] folds it under
//! [`Rules`], and [`Folded::compare`] holds the result against MySQL, row for row.

mod compare;
mod convert;
mod fold;
mod json;
mod judge;
mod shape;
mod topic;

pub use compare::{CompareError, Differences, TableDifferences, checksum, dump_table};
pub use fold::{Counts, Folded, Letter, Row, Rules, Table};
pub use topic::{TopicRecord, read as visit_topic};

use std::collections::BTreeMap;

use reprise_shared::position::{Offset, Partition};

use fold::Fold;

/// All records of a topic, in memory.
#[derive(Debug, Default)]
pub struct Oracle {
    records: Vec<Stored>,
    bytes: Vec<u8>,
}

/// A record whose bytes lie in `Oracle::bytes`, one part after another from `start`.
#[derive(Debug)]
struct Stored {
    partition: Partition,
    offset: Offset,
    time: Option<i64>,
    start: usize,
    data_type: Option<usize>,
    key: Option<usize>,
    payload: Option<usize>,
}

impl Oracle {
    /// Reads a topic from its low to its high watermarks, taken before the first record. Blocks, so it belongs on a
    /// thread of its own; joins no group and commits nothing.
    pub fn read_topic(brokers: &str, topic: &str) -> anyhow::Result<Self> {
        let mut oracle = Self::default();
        topic::read(brokers, topic, |record| oracle.push(record))?;
        Ok(oracle)
    }

    /// Appends a record. Those of one partition come in the order of their offsets.
    pub fn push(&mut self, record: &TopicRecord<'_>) {
        let start = self.bytes.len();
        let [data_type, key, payload] = [record.data_type, record.key, record.payload].map(|part| {
            self.bytes.extend_from_slice(part.unwrap_or_default());
            part.map(<[u8]>::len)
        });
        let (partition, offset) = (record.partition, record.offset);
        self.records.push(Stored {
            partition,
            offset,
            time: record.time,
            start,
            data_type,
            key,
            payload,
        });
    }

    /// Iterates over the records, partition by partition.
    pub fn records(&self) -> impl Iterator<Item = TopicRecord<'_>> {
        self.records.iter().map(|stored| {
            let mut rest = &self.bytes[stored.start..];
            let mut take = |length: Option<usize>| {
                let (part, after) = rest.split_at(length?);
                rest = after;
                Some(part)
            };
            TopicRecord {
                partition: stored.partition,
                offset: stored.offset,
                time: stored.time,
                data_type: take(stored.data_type),
                key: take(stored.key),
                payload: take(stored.payload),
            }
        })
    }

    /// Returns how many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Tells whether there is no record at all.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Leaves out the records at and above each partition's position; a partition that is not named has none left.
    pub fn truncate(&mut self, ends: &BTreeMap<Partition, Offset>) {
        self.records
            .retain(|record| ends.get(&record.partition).is_some_and(|end| record.offset < *end));
    }

    /// Leaves out the records that are not meant.
    pub fn retain(&mut self, mut keep: impl FnMut(&TopicRecord<'_>) -> bool) {
        let kept: Vec<bool> = self.records().map(|record| keep(&record)).collect();
        let mut kept = kept.into_iter();
        self.records.retain(|_| kept.next().unwrap_or(false));
    }

    /// Folds all records.
    pub fn fold(&self, rules: &Rules<'_>) -> Folded {
        let mut fold = Fold::new(rules);
        for record in self.records() {
            fold.add(&record);
        }
        fold.finish()
    }
}

#[cfg(test)]
mod tests;
