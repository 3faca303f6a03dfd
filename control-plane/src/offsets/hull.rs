//! Which positions a time window comes to, from what the ledger knows and what the broker's index says. Pure.
//!
//! The broker says exactly where the first record with a time at or after the window's start lies, so no record of the
//! window lies before it. Nothing it says bounds the last one: times may be unordered. What the ledger covers is known
//! by its ranges; every other position of the log from there on may hold a record of the window, and counts.
//!
//! One thing does not count: positions after the ledger's end, when the broker's first record at or after the window's
//! end lies below that. They were not read yet; a record of the window that comes in there late is about to be
//! processed, and asking again will find it. Otherwise every window of the past would reach to the end of the log
//! while data comes in.

use reprise_shared::ledger::{Interval, holes, union};
use reprise_shared::position::Offset;

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The ranges on record.
    Ledger,
    /// The broker's index of times, in part at least.
    Broker,
}

/// What is known of one partition and a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The log.
    pub log: Interval,
    /// The first record with a time at or after the window's start; `None`: the log has none.
    pub first: Option<Offset>,
    /// The first record with a time at or after the window's end; `None`: the log has none.
    pub beyond: Option<Offset>,
    /// What the ledger covers.
    pub covered: Vec<Interval>,
    /// From where on the type's ranges are whole.
    pub indexed_from: Offset,
    /// From the first to the last range with a time in the window.
    pub matching: Option<Interval>,
}

impl Facts {
    /// Returns the positions; an empty interval when there is no record.
    pub fn resolve(&self) -> (Interval, Source) {
        let unknown = self.unknown();
        let found = unknown.iter().copied().chain(self.matching).reduce(joined);
        let nothing = self.first.unwrap_or(self.log.end);
        let certain = unknown.is_empty() && (self.first.is_some() || self.matching.is_some());
        let source = if certain { Source::Ledger } else { Source::Broker };
        (found.unwrap_or(Interval::new(nothing, nothing)), source)
    }

    /// Returns the positions of the log that may hold records of the window which the ledger does not know.
    fn unknown(&self) -> Vec<Interval> {
        let Some(first) = self.first else {
            return Vec::new();
        };
        let from = first.max(self.indexed_from);
        let known = self.covered.iter();
        let known = known.map(|covered| Interval::new(covered.start.max(from), covered.end.min(self.log.end)));
        let known = union(known);
        let end = known.last().map_or(first, |last| last.end);
        let mut unknown = holes(Interval::new(first, end), known);
        let rest = Interval::new(end, self.log.end);
        if !rest.is_empty() && (end == first || self.beyond.unwrap_or(self.log.end) > end) {
            unknown.push(rest);
        }
        unknown
    }
}

/// Returns the interval from the first start to the last end.
pub fn joined(one: Interval, other: Interval) -> Interval {
    Interval::new(one.start.min(other.start), one.end.max(other.end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interval((start, end): (u64, u64)) -> Interval {
        Interval::new(Offset(start), Offset(end))
    }

    /// A log `[100, 1000)` that the ledger covers up to 900, with records of the window in `[300, 400)`.
    fn facts() -> Facts {
        Facts {
            log: interval((100, 1_000)),
            first: Some(Offset(310)),
            beyond: Some(Offset(390)),
            covered: vec![interval((0, 900))],
            indexed_from: Offset(0),
            matching: Some(interval((300, 400))),
        }
    }

    #[test]
    fn a_whole_ledger_answers_by_its_ranges_also_while_more_comes_in() {
        assert_eq!(facts().resolve(), (interval((300, 400)), Source::Ledger));
    }

    #[test]
    fn a_window_that_reaches_beyond_the_ledger_reaches_to_the_end_of_the_log() {
        for beyond in [None, Some(Offset(950))] {
            let facts = Facts { beyond, ..facts() };
            assert_eq!(facts.resolve(), (interval((300, 1_000)), Source::Broker));
        }
        let unread = Facts {
            covered: vec![interval((0, 200))],
            matching: None,
            ..facts()
        };
        assert_eq!(unread.resolve(), (interval((310, 1_000)), Source::Broker));
        // Without ordered records in the window, the broker's two places are the same.
        let unread = Facts {
            beyond: unread.first,
            ..unread
        };
        assert_eq!(unread.resolve(), (interval((310, 1_000)), Source::Broker));
    }

    #[test]
    fn holes_count_from_the_first_record_of_the_window_on() {
        let covered = [(0, 200), (250, 350), (360, 500), (510, 900)].map(interval).to_vec();
        let holed = Facts { covered, ..facts() };
        assert_eq!(holed.resolve(), (interval((300, 510)), Source::Broker));
        let purged = Facts {
            indexed_from: Offset(330),
            matching: None,
            ..facts()
        };
        assert_eq!(purged.resolve(), (interval((310, 330)), Source::Broker));
    }

    #[test]
    fn what_kafka_has_deleted_is_known_by_the_ledger_alone() {
        let expired = Facts {
            first: None,
            beyond: None,
            matching: Some(interval((20, 50))),
            ..facts()
        };
        assert_eq!(expired.resolve(), (interval((20, 50)), Source::Ledger));
        let nothing = Facts {
            matching: None,
            ..expired
        };
        assert_eq!(nothing.resolve(), (interval((1_000, 1_000)), Source::Broker));
    }

    proptest! {
        /// Records with unordered times in a log of 60; some of it is covered, in ranges of up to 5 positions.
        #[test]
        fn no_record_of_the_window_that_may_have_been_processed_is_missed(
            times in prop::collection::vec(0_i64..30, 60), holes_at in prop::collection::vec((0_u64..60, 0_u64..6), 0..4),
            reach in 0_u64..=60, start in 0_i64..30, length in 0_i64..10, indexed_from in 0_u64..30,
        ) {
            let end = start + length;
            let at = |time: i64| times.iter().position(|other| *other >= time).map(|place| Offset(place as u64));
            let cut: Vec<_> = holes_at.iter().map(|(from, length)| interval((*from, from + length))).collect();
            let covered = holes(interval((0, reach)), cut);
            let within = |offset: u64| (start..end).contains(&times[offset as usize]);
            let ranges = covered.iter().flat_map(|covered| {
                (covered.start.0..covered.end.0).step_by(5).map(|from| interval((from, (from + 5).min(covered.end.0))))
            });
            let matching = ranges
                .filter(|range| range.end.0 > indexed_from && (range.start.0..range.end.0).any(within))
                .reduce(joined);
            let facts = Facts {
                log: interval((0, 60)), first: at(start), beyond: at(end), covered: covered.clone(),
                indexed_from: Offset(indexed_from), matching,
            };
            let (found, source) = facts.resolve();
            let known_end = covered.last().map_or(0, |last| last.end.0);
            for offset in (0..60).filter(|offset| within(*offset)) {
                let inside = found.start.0 <= offset && offset < found.end.0;
                let late = offset >= known_end && facts.beyond.is_some_and(|beyond| beyond.0 <= known_end);
                prop_assert!(inside || late, "{offset} is not in {found:?} of {facts:?}");
            }
            if source == Source::Ledger {
                prop_assert_eq!(found.is_empty(), matching.is_none());
            }
        }
    }
}
