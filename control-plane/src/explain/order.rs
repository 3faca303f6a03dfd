//! Which of two rows was stored first, as far as the ledger tells. Pure.
//!
//! The ledger keeps when each segment of each run was processed, to the minute or so, and not when each record was.

use reprise_shared::ledger::{Millis, Range};
use reprise_shared::position::SourcePosition;

/// Whether the newer row was stored when the older one was processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It was stored already: the older one was stale.
    Before,
    /// It was stored later, or in the same batch: the older one was superseded.
    After,
    /// It is a later row of the same record.
    SameRecord,
    /// The ledger does not tell.
    Unknown,
}

/// The row that the table holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newer<'r> {
    /// `None` when it is no row of Kafka.
    pub(super) position: Option<SourcePosition>,
    /// The ranges that hold its record.
    pub(super) ranges: &'r [Range],
    /// Its record was neither filtered, deferred nor dead-lettered when it was first processed: what is stored was
    /// stored then.
    pub(super) written_at_once: bool,
}

/// Judges two rows of one key by the ranges that hold their records.
pub(super) fn order(older: SourcePosition, ranges: &[Range], newer: Newer<'_>) -> Order {
    let Some(position) = newer.position else {
        return Order::Unknown;
    };
    let same_partition = position.generation() == older.generation() && position.partition() == older.partition();
    if same_partition && position.offset() == older.offset() {
        return Order::SameRecord;
    }
    let (Some(range), Some(newer_range)) = (first(ranges), first(newer.ranges)) else {
        return Order::Unknown;
    };
    let by_same_run = newer.ranges.iter().any(|newer| newer.run == range.run);
    let before = if same_partition && position.offset() > older.offset() {
        // Partitions are read in order.
        by_same_run.then_some(false)
    } else if same_partition && !by_same_run {
        // A run begins where everything before it is durable.
        Some(true)
    } else {
        None
    };
    let before = before.or_else(|| {
        if range.last_processed < newer_range.first_processed {
            Some(false)
        } else {
            (newer_range.last_processed < range.first_processed).then_some(true)
        }
    });
    match before {
        Some(true) if newer.written_at_once => Order::Before,
        Some(false) => Order::After,
        Some(true) | None => Order::Unknown,
    }
}

/// Returns the first processing.
fn first(ranges: &[Range]) -> Option<&Range> {
    ranges
        .iter()
        .min_by_key(|range| (range.first_processed, range.last_processed))
}

/// Returns the moments between which a record was first processed.
pub(super) fn processed(ranges: &[Range]) -> Option<(Millis, Millis)> {
    first(ranges).map(|range| (range.first_processed, range.last_processed))
}

#[cfg(test)]
mod tests {
    use reprise_shared::ledger::{RunId, Source};
    use reprise_shared::position::{Offset, Partition, RowNumber, TopicGeneration, TopicId};
    use reprise_shared::tally::{RecordCounts, RowCounts};

    use super::*;

    fn range(run: &str, processed: (i64, i64)) -> Range {
        Range {
            run: RunId::new(run),
            segment: Offset(0),
            start: Offset(0),
            end: Offset(100),
            records: RecordCounts::default(),
            rows: RowCounts::default(),
            first_record: None,
            last_record: None,
            first_processed: Millis(processed.0),
            last_processed: Millis(processed.1),
            whitelist: None,
            topic_id: TopicId::new("t"),
            source: Source::Live,
        }
    }

    fn at(partition: u16, offset: u64) -> SourcePosition {
        SourcePosition::new(TopicGeneration(0), Partition(partition), Offset(offset), RowNumber(0))
    }

    fn judged(older: (SourcePosition, Range), newer: (SourcePosition, Range), written_at_once: bool) -> Order {
        let newer = (newer.0, [newer.1]);
        let stored = Newer {
            position: Some(newer.0),
            ranges: &newer.1,
            written_at_once,
        };
        order(older.0, &[older.1], stored)
    }

    #[test]
    fn within_one_run_of_a_partition_the_offsets_tell_that_the_newer_one_came_later() {
        let segment = || range("a", (0, 10));
        assert_eq!(judged((at(0, 5), segment()), (at(0, 9), segment()), true), Order::After);
        // The other way round both may have been in one batch.
        assert_eq!(
            judged((at(0, 9), segment()), (at(0, 5), segment()), true),
            Order::Unknown
        );
        assert_eq!(
            judged((at(0, 9), range("a", (11, 12))), (at(0, 5), segment()), true),
            Order::Before
        );
        assert_eq!(
            judged((at(0, 5), segment()), (at(0, 5), segment()), true),
            Order::SameRecord
        );
    }

    #[test]
    fn a_run_begins_where_everything_before_it_is_stored() {
        let (former, next) = (|| range("a", (0, 10)), || range("b", (10, 20)));
        assert_eq!(judged((at(0, 9), next()), (at(0, 5), former()), true), Order::Before);
        assert_eq!(judged((at(0, 9), next()), (at(0, 5), former()), false), Order::Unknown);
    }

    #[test]
    fn across_partitions_times_tell_when_they_do_not_touch() {
        let (early, late) = (|| range("a", (0, 10)), || range("b", (11, 20)));
        assert_eq!(judged((at(0, 9), late()), (at(1, 5), early()), true), Order::Before);
        assert_eq!(judged((at(0, 9), early()), (at(1, 5), late()), true), Order::After);
        assert_eq!(
            judged((at(0, 9), early()), (at(1, 5), range("b", (10, 20))), true),
            Order::Unknown
        );
    }

    #[test]
    fn rows_that_are_not_from_kafka_or_not_on_record_tell_nothing() {
        let backfilled = Newer {
            position: None,
            ranges: &[],
            written_at_once: true,
        };
        assert_eq!(order(at(0, 1), &[range("a", (0, 1))], backfilled), Order::Unknown);
        let expired = Newer {
            position: Some(at(0, 9)),
            ..backfilled
        };
        assert_eq!(order(at(0, 1), &[range("a", (0, 1))], expired), Order::Unknown);
    }
}
