//! Where records with times in a window may stand. Pure.
//!
//! Where coverage is whole and the ledger was not purged, ranges say where a type's records are and between which
//! times, whatever the order of times. Elsewhere (unread records, holes) everything from the broker's first offset of
//! the window's start on has to be read: no record before it has a time in the window, and any after it may.

use reprise_shared::ledger::{Coverage, CoverageKind, Interval, Millis, Range, holes, union};
use reprise_shared::position::{Offset, TopicId};

/// The moments `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub start: Millis,
    /// The moment after the last.
    pub end: Millis,
}

impl Window {
    /// Tells whether a moment is in it.
    pub fn contains(self, time: Millis) -> bool {
        self.start <= time && time < self.end
    }

    /// Tells whether a range has records with times in it, as far as the range tells.
    pub(super) fn meets(self, range: &Range) -> bool {
        let times = range.first_record.zip(range.last_record);
        times.is_some_and(|(first, last)| first < self.end && self.start <= last)
    }
}

/// What the ledger knows of a type's records in one partition.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) ranges: Vec<Range>,
    pub(super) coverage: Vec<Coverage>,
    /// Below this, ranges were purged.
    pub(super) indexed_from: Offset,
}

/// Returns where to read: `log` is what Kafka has, `first` the first offset with a time of the window's start or later.
pub(super) fn candidates(
    log: Interval,
    first: Offset,
    window: Window,
    topic_id: &TopicId,
    known: &Known,
) -> Vec<Interval> {
    let within = Interval::new(log.start.max(first), log.end);
    let covered = known.coverage.iter().filter(|member| {
        member.topic_id == *topic_id && matches!(member.kind, CoverageKind::Live | CoverageKind::Attested)
    });
    let indexed = covered.map(|member| Interval::new(member.start.max(known.indexed_from), member.end));
    let unknown = holes(within, indexed);
    let ranges = known.ranges.iter();
    let found = ranges
        .filter(|range| range.topic_id == *topic_id && window.meets(range))
        .map(Range::interval);
    let clip = |interval: Interval| Interval::new(interval.start.max(within.start), interval.end.min(within.end));
    union(found.map(clip).chain(unknown))
}

#[cfg(test)]
mod tests {
    use reprise_shared::ledger::{RunId, Source};
    use reprise_shared::tally::{RecordCounts, RowCounts};

    use super::*;

    fn range(start: u64, end: u64, times: (i64, i64)) -> Range {
        Range {
            run: RunId::new("run"),
            segment: Offset(start),
            start: Offset(start),
            end: Offset(end),
            records: RecordCounts::default(),
            rows: RowCounts::default(),
            first_record: Some(Millis(times.0)),
            last_record: Some(Millis(times.1)),
            first_processed: Millis(0),
            last_processed: Millis(0),
            whitelist: None,
            topic_id: TopicId::new("t"),
            source: Source::Live,
        }
    }

    fn covered(start: u64, end: u64) -> Coverage {
        Coverage {
            kind: CoverageKind::Live,
            topic_id: TopicId::new("t"),
            data_type: None,
            start: Offset(start),
            end: Offset(end),
            first_processed: Millis(0),
            last_processed: Millis(0),
        }
    }

    fn found(first: u64, known: &Known) -> Vec<(u64, u64)> {
        let window = Window {
            start: Millis(100),
            end: Millis(200),
        };
        let log = Interval::new(Offset(10), Offset(100));
        candidates(log, Offset(first), window, &TopicId::new("t"), known)
            .into_iter()
            .map(|interval| (interval.start.0, interval.end.0))
            .collect()
    }

    #[test]
    fn ranges_with_times_in_the_window_are_read_and_what_was_not_processed_yet() {
        let mut known = Known {
            ranges: vec![
                range(5, 20, (90, 100)),
                range(20, 40, (200, 300)),
                range(50, 60, (0, 99)),
                range(70, 75, (150, 500)),
            ],
            coverage: vec![covered(0, 80)],
            indexed_from: Offset(0),
        };
        assert_eq!(found(0, &known), [(10, 20), (70, 75), (80, 100)]);
        assert_eq!(found(15, &known), [(15, 20), (70, 75), (80, 100)]);
        assert_eq!(found(100, &known), []);
        // What was purged, what nothing is known of, and what another incarnation of the topic left, is read.
        known.indexed_from = Offset(30);
        assert_eq!(found(0, &known), [(10, 30), (70, 75), (80, 100)]);
        known.coverage = vec![covered(30, 60), covered(65, 100)];
        assert_eq!(found(0, &known), [(10, 30), (60, 65), (70, 75)]);
        known.coverage[0].topic_id = TopicId::new("former");
        assert_eq!(found(0, &known), [(10, 65), (70, 75)]);
    }
}
