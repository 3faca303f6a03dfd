//! Reads what the ledger knows of one partition.

use reprise_shared::ledger::{CoverageKind, Interval, Range};
use reprise_shared::position::{Offset, TopicId, TopicPartition};

use super::facts::{Known, TypeLedger};
use super::{Error, Planner};

/// One call reads at most so many members.
const PAGE: usize = 2_000;
/// A partition has at most so many intervals of coverage.
const MOST_COVERAGE: usize = 10_000;

impl Planner {
    /// Returns what live traffic or a rebuild covered of an incarnation of a topic.
    pub(super) async fn covered(
        &self,
        partition: &TopicPartition,
        topic_id: &TopicId,
        within: Interval,
    ) -> Result<Vec<Interval>, Error> {
        let (mut cursor, mut covered) = (None, Vec::new());
        loop {
            let page = self.0.reader.coverage(partition, within, cursor, PAGE).await?;
            let members = page.members.iter().filter(|member| {
                member.topic_id == *topic_id && matches!(member.kind, CoverageKind::Live | CoverageKind::Attested)
            });
            covered.extend(members.map(reprise_shared::ledger::Coverage::interval));
            cursor = page.next;
            if covered.len() > MOST_COVERAGE {
                return Err(Error::TooMuch {
                    partition: partition.clone(),
                    what: "intervals of coverage",
                    most: MOST_COVERAGE,
                });
            }
            if cursor.is_none() {
                return Ok(covered);
            }
        }
    }

    /// Returns the ranges of one data type above what was purged. `left` counts down what may still be read.
    pub(super) async fn type_ledger(
        &self,
        data_type: &str,
        partition: &TopicPartition,
        topic_id: &TopicId,
        within: Interval,
        left: &mut usize,
    ) -> Result<TypeLedger, Error> {
        let mut ledger = TypeLedger::default();
        let mut cursor = None;
        loop {
            let page = self.0.reader.ranges(data_type, partition, within, cursor, PAGE).await?;
            *left = left
                .checked_sub(page.members.len() + page.unreadable)
                .ok_or_else(|| Error::TooMuch {
                    partition: partition.clone(),
                    what: "ranges to look at (jobs.max_ranges, of all partitions together)",
                    most: self.config().max_ranges,
                })?;
            let members = page.members.into_iter().filter(|range| range.topic_id == *topic_id);
            ledger.ranges.extend(members.map(known));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        // After the ranges: a purge raises it before it removes any, so what is above now was whole then.
        ledger.indexed_from = self.0.purger.indexed_from(data_type, partition).await?;
        let from = ledger.indexed_from;
        ledger.ranges.retain_mut(|range| clip(range, from));
        ledger
            .ranges
            .sort_by_key(|range| (range.interval.start, range.interval.end));
        Ok(ledger)
    }
}

fn known(range: Range) -> Known {
    Known {
        interval: range.interval(),
        records: range.records.consumed(),
        record_times: range.first_record.zip(range.last_record),
        processing_times: (range.first_processed, range.last_processed),
        whitelist: range.whitelist,
    }
}

/// Cuts off what lies below a position, with its share of the records; tells whether something is left.
fn clip(range: &mut Known, from: Offset) -> bool {
    let Interval { start, end } = range.interval;
    if start >= from {
        return true;
    }
    if end <= from {
        return false;
    }
    let (left, whole) = (u128::from(end.0 - from.0), u128::from(end.0 - start.0));
    range.records = u64::try_from(u128::from(range.records) * left / whole).unwrap_or(u64::MAX);
    range.interval.start = from;
    true
}
