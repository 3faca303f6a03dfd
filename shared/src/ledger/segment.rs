//! One segment of one run: what its chunks came to. Pure.

use std::time::Duration;

use super::member::{Millis, Range, RunId, Source};
use super::run::Limits;
use crate::catalog::TypeIndex;
use crate::position::{Offset, TopicId, TopicPartition};
use crate::tally::{RecordCounts, RowCounts};
use crate::whitelist::Version;

/// Which run a ledger belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The partition.
    pub partition: TopicPartition,
    /// The incarnation of its topic.
    pub topic_id: TopicId,
    /// The run: a new one for each assignment, and for each claim of a rebuild's task.
    pub run: RunId,
    /// Where it reads from. What a rebuild found has no whitelist version, and what it covers is attested.
    pub source: Source,
}

/// What became of one type's records in a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeTally {
    /// Records by outcome.
    pub records: RecordCounts,
    /// Rows by outcome.
    pub rows: RowCounts,
    /// The first record of the type.
    pub start: Offset,
    /// The position after its last record.
    pub end: Offset,
    /// The earliest time that Kafka gives for them.
    pub first_record: Option<Millis>,
    /// The latest.
    pub last_record: Option<Millis>,
}

/// A completed chunk: every record in it has a durable outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkTally {
    /// The position before its first record; the former chunk's end unless an interval was passed over as lost.
    pub start: Offset,
    /// The position after its last record.
    pub end: Offset,
    /// The whitelist that judged it.
    pub whitelist: Version,
    /// When its first record was processed.
    pub first_processed: Millis,
    /// When its last was.
    pub last_processed: Millis,
    /// By type, each at most once; `None` for records without a type, which count in coverage only.
    pub types: Vec<(Option<TypeIndex>, TypeTally)>,
}

impl ChunkTally {
    pub(super) fn records(&self) -> u64 {
        self.types.iter().map(|(_, tally)| tally.records.consumed()).sum()
    }
}

/// What grows and is sealed together: the ranges of all types, and the coverage.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) whitelist: Version,
    pub(super) records: u64,
    /// Records of the run before this segment.
    pub(super) records_before: u64,
    pub(super) first_processed: Millis,
    pub(super) last_processed: Millis,
    pub(super) types: Vec<(TypeIndex, TypeTally)>,
}

/// Tells whether `now` lies less than `length` after `start`. A clock that was set back ends the span too.
pub(super) fn within(start: Millis, now: Millis, length: Duration) -> bool {
    now >= start && now.since(start) < length
}

impl Segment {
    pub(super) fn at(chunk: &ChunkTally, records_before: u64) -> Self {
        Self {
            start: chunk.start,
            end: chunk.start,
            whitelist: chunk.whitelist,
            records: 0,
            records_before,
            first_processed: chunk.first_processed,
            last_processed: chunk.last_processed,
            types: Vec::new(),
        }
    }

    pub(super) fn takes(&self, chunk: &ChunkTally, records: u64, limits: &Limits) -> bool {
        self.end == chunk.start
            && self.whitelist == chunk.whitelist
            && self.records + records <= limits.seal_records
            && within(self.first_processed, chunk.last_processed, limits.seal_after)
    }

    pub(super) fn grow(&mut self, chunk: &ChunkTally, records: u64) {
        self.end = chunk.end;
        self.records += records;
        self.first_processed = self.first_processed.min(chunk.first_processed);
        self.last_processed = self.last_processed.max(chunk.last_processed);
        for (index, tally) in chunk
            .types
            .iter()
            .filter_map(|(index, tally)| index.map(|index| (index, tally)))
        {
            match self.types.iter_mut().find(|(known, _)| *known == index) {
                Some((_, sum)) => sum.add(tally),
                None => self.types.push((index, *tally)),
            }
        }
    }

    pub(super) fn ranges(&self, identity: &Identity, type_names: &[String]) -> impl Iterator<Item = (String, Range)> {
        self.types.iter().filter_map(move |(index, tally)| {
            let range = Range {
                run: identity.run.clone(),
                segment: self.start,
                start: tally.start,
                end: tally.end,
                records: tally.records,
                rows: tally.rows,
                first_record: tally.first_record,
                last_record: tally.last_record,
                first_processed: self.first_processed,
                last_processed: self.last_processed,
                whitelist: (identity.source == Source::Live).then_some(self.whitelist),
                topic_id: identity.topic_id.clone(),
                source: identity.source,
            };
            Some((type_names.get(index.0)?.clone(), range))
        })
    }
}

impl TypeTally {
    fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.rows += other.rows;
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        self.first_record = [self.first_record, other.first_record].into_iter().flatten().min();
        self.last_record = self.last_record.max(other.last_record);
    }
}
