//! What became of a chunk's records and rows, counted per data type.

use std::collections::HashSet;

use reprise_shared::catalog::TypeIndex;
use reprise_shared::position::Offset;
use reprise_shared::tally::{RecordCounts, RowCounts};
use smallvec::SmallVec;

use crate::chunk::RecordIndex;

/// The counts of one data type in one chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeTally {
    /// Records by outcome.
    pub records: RecordCounts,
    /// Rows that decode produced and that were not dropped with a deferred record.
    pub produced: u64,
    /// Rows by outcome.
    pub rows: RowCounts,
    /// The first offset of this type in the chunk and the position after its last.
    pub offsets: Option<(Offset, Offset)>,
    /// The least and greatest Kafka timestamp of its records in milliseconds; records without one are left out.
    pub record_time: Option<(i64, i64)>,
}

impl TypeTally {
    fn saw(&mut self, offset: Offset, timestamp: i64) {
        self.offsets = hull(self.offsets, Some((offset, offset.next())));
        if timestamp >= 0 {
            self.record_time = hull(self.record_time, Some((timestamp, timestamp)));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.records += other.records;
        self.produced += other.produced;
        self.rows += other.rows;
        self.offsets = hull(self.offsets, other.offsets);
        self.record_time = hull(self.record_time, other.record_time);
    }
}

fn hull<T: Ord + Copy>(a: Option<(T, T)>, b: Option<(T, T)>) -> Option<(T, T)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (one, other) => one.or(other),
    }
}

/// The counts of one chunk. `None` as type: records that matched no type.
#[derive(Debug, Default)]
pub struct Outcome {
    types: SmallVec<[(Option<TypeIndex>, TypeTally); 4]>,
    deferred: HashSet<RecordIndex>,
}

impl Outcome {
    /// Returns the counts of one type, made on first use.
    pub fn tally(&mut self, data_type: Option<TypeIndex>) -> &mut TypeTally {
        let place = match self.types.iter().position(|(known, _)| *known == data_type) {
            Some(place) => place,
            None => {
                self.types.push((data_type, TypeTally::default()));
                self.types.len() - 1
            }
        };
        &mut self.types[place].1
    }

    /// Notes that a record of a type stands at an offset. Every delivered record is noted once.
    pub fn saw(&mut self, data_type: Option<TypeIndex>, offset: Offset, timestamp: i64) -> &mut TypeTally {
        let tally = self.tally(data_type);
        tally.saw(offset, timestamp);
        tally
    }

    /// Adds what another part of the chunk's way counted.
    pub fn merge(&mut self, other: &Self) {
        for (data_type, tally) in &other.types {
            self.tally(*data_type).merge(tally);
        }
    }

    /// Moves a record from processed to deferred, once, and takes back one produced row.
    pub fn defer_row(&mut self, data_type: TypeIndex, record: RecordIndex) {
        let first = self.deferred.insert(record);
        let tally = self.tally(Some(data_type));
        tally.produced -= 1;
        if first {
            tally.records.processed -= 1;
            tally.records.deferred += 1;
        }
    }

    /// Moves a record from dead-lettered to deferred.
    pub fn defer_letter(&mut self, data_type: TypeIndex, record: RecordIndex) {
        if self.deferred.insert(record) {
            let tally = self.tally(Some(data_type));
            tally.records.dead_lettered -= 1;
            tally.records.deferred += 1;
        }
    }

    /// Returns a copy of all counts.
    pub fn tallies(&self) -> Vec<(Option<TypeIndex>, TypeTally)> {
        self.types.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_two_dropped_rows_is_deferred_once() {
        let mut outcome = Outcome::default();
        let data_type = TypeIndex(0);
        let tally = outcome.saw(Some(data_type), Offset(7), 1_000);
        tally.records.processed += 1;
        tally.produced += 3;
        tally.rows.written += 1;
        outcome.defer_row(data_type, RecordIndex(0));
        outcome.defer_row(data_type, RecordIndex(0));
        let tally = outcome.tally(Some(data_type)).clone();
        assert_eq!((tally.records.processed, tally.records.deferred), (0, 1));
        assert_eq!(tally.produced, tally.rows.settled());
    }
}
