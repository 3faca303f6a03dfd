//! How many records a job is expected to read. Pure.

use reprise_shared::ledger::{Interval, Millis, union};

use super::facts::Known;
use super::segments::{clip, common, length};
use crate::offsets::window::Window;

/// What is expected of some positions of one data type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Records, with one for each position that the ledger does not cover.
    pub records: u64,
    /// Positions that the ledger does not cover.
    pub uncovered: u64,
}

/// Estimates the records of ascending, disjoint intervals. `indexed` is where the ranges are whole. With a window only
/// records of its times count, as if a range's times were spread evenly.
pub fn expected(intervals: &[Interval], indexed: &[Interval], ranges: &[Known], window: Option<Window>) -> Expected {
    let covered = common(intervals, &union(indexed.iter().copied()));
    let uncovered = length(intervals.iter().copied()).saturating_sub(length(covered));
    // A range that another one holds already, after a crash, counts for what is new in it.
    let (mut records, mut counted_to) = (0_u128, None);
    for range in ranges {
        let start = counted_to.map_or(range.interval.start, |to| range.interval.start.max(to));
        let new = Interval::new(start, range.interval.end);
        let whole = length([range.interval]);
        if new.is_empty() || whole == 0 {
            continue;
        }
        counted_to = Some(range.interval.end);
        let read = length(overlapping(intervals, new).map(|interval| clip(interval, new)));
        let by_position = (u128::from(read), u128::from(whole));
        let by_time = window.map_or((1, 1), |window| share(window, range.record_times));
        // What is not read for its place was left out for its time, so the one share holds the other.
        let (part, of) = smaller(by_position, by_time);
        // Thousandths, so that small parts of many ranges are not all rounded down.
        records += u128::from(range.records) * 1_000 * part / of;
    }
    Expected {
        records: u64::try_from(records.div_ceil(1_000))
            .unwrap_or(u64::MAX)
            .saturating_add(uncovered),
        uncovered,
    }
}

/// Returns the intervals, of ascending and disjoint ones, that overlap another.
fn overlapping(intervals: &[Interval], with: Interval) -> impl Iterator<Item = Interval> {
    let from = intervals.partition_point(|interval| interval.end <= with.start);
    let rest = intervals.get(from..).unwrap_or_default();
    rest.iter()
        .copied()
        .take_while(move |interval| interval.start < with.end)
}

/// Returns the smaller of two fractions.
fn smaller(one: (u128, u128), other: (u128, u128)) -> (u128, u128) {
    if one.0.saturating_mul(other.1) <= other.0.saturating_mul(one.1) {
        one
    } else {
        other
    }
}

/// Returns which part of a range's times lies in a window, as a fraction.
fn share(window: Window, times: Option<(Millis, Millis)>) -> (u128, u128) {
    let Some((first, last)) = times else {
        return (0, 1);
    };
    let end = last.0.saturating_add(1);
    let start_in = window.start.map_or(first.0, |start| start.0.max(first.0));
    let end_in = window.end.map_or(end, |window_end| window_end.0.min(end));
    let span = |from: i64, to: i64| u128::try_from(i128::from(to) - i128::from(from)).unwrap_or(0);
    (span(start_in, end_in), span(first.0, end).max(1))
}

#[cfg(test)]
mod tests {
    use reprise_shared::position::Offset;

    use super::*;

    fn interval((start, end): (u64, u64)) -> Interval {
        Interval::new(Offset(start), Offset(end))
    }

    fn known(bounds: (u64, u64), records: u64, times: (i64, i64)) -> Known {
        Known {
            interval: interval(bounds),
            records,
            record_times: Some((Millis(times.0), Millis(times.1))),
            processing_times: (Millis(0), Millis(0)),
            whitelist: None,
        }
    }

    #[test]
    fn records_of_ranges_count_by_share_and_unknown_positions_one_by_one() {
        let ranges = [
            known((0, 100), 50, (0, 99)),
            known((50, 150), 60, (0, 99)),
            known((200, 300), 10, (100, 199)),
        ];
        let indexed = [interval((0, 250))];
        let whole = |asked: &[(u64, u64)], window| {
            let asked: Vec<Interval> = asked.iter().copied().map(interval).collect();
            let found = expected(&asked, &indexed, &ranges, window);
            (found.records, found.uncovered)
        };
        assert_eq!(whole(&[(0, 100)], None), (50, 0));
        // Of the second range only what the first does not hold counts: half of its 60.
        assert_eq!(whole(&[(0, 150)], None), (80, 0));
        assert_eq!(whole(&[(0, 10), (20, 40)], None), (15, 0));
        assert_eq!(whole(&[(200, 300)], None), (10 + 50, 50));
        let window = Window {
            start: Some(Millis(50)),
            end: Some(Millis(150)),
        };
        assert_eq!(whole(&[(0, 100)], Some(window)), (25, 0));
        assert_eq!(whole(&[(50, 100)], Some(window)), (25, 0));
        assert_eq!(whole(&[(90, 100)], Some(window)), (5, 0));
        assert_eq!(whole(&[(150, 200)], None), (0, 0));
    }
}
