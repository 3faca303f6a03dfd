//! From positions and lists of ids to slices: sweep, join, cut. Pure.
//!
//! A segment is taken with one list of ids. What lies between two segments may be read with them where the ledger knows
//! that no record of the type stands there: a task costs more than some thousand positions.

use std::collections::BTreeMap;

use reprise_shared::ledger::{Interval, holes, union};
use reprise_shared::position::Offset;

use super::facts::Known;

/// Positions that are read with one list of ids; `None`: all ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The positions.
    pub interval: Interval,
    /// The list.
    pub filter: Option<u32>,
}

/// Positions, and the ranges (by their places) that hold them: at least one.
pub type Swept = (Interval, Vec<usize>);

/// Divides what ranges hold at their starts and ends. Ascending, disjoint. Ranges overlap after a crash.
pub fn sweep(ranges: &[Known], within: Interval) -> Vec<Swept> {
    let mut bounds: BTreeMap<Offset, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (place, range) in ranges.iter().enumerate() {
        let clipped = clip(range.interval, within);
        if !clipped.is_empty() {
            bounds.entry(clipped.start).or_default().0.push(place);
            bounds.entry(clipped.end).or_default().1.push(place);
        }
    }
    let (mut swept, mut holding, mut from) = (Vec::new(), Vec::<usize>::new(), within.start);
    for (at, (starting, ending)) in bounds {
        if !holding.is_empty() {
            swept.push((Interval::new(from, at), holding.clone()));
        }
        holding.retain(|place| !ending.contains(place));
        holding.extend(starting);
        from = at;
    }
    swept
}

/// Joins segments of one list where what lies between them is short and `harmless`.
pub fn join(segments: Vec<Segment>, longest_gap: u64, harmless: impl Fn(Interval) -> bool) -> Vec<Segment> {
    let mut joined: Vec<Segment> = Vec::with_capacity(segments.len());
    for segment in segments {
        match joined.last_mut() {
            Some(last) if last.filter == segment.filter => {
                let gap = Interval::new(last.interval.end, segment.interval.start);
                if gap.is_empty() || (gap.end.0 - gap.start.0 <= longest_gap && harmless(gap)) {
                    last.interval.end = segment.interval.end;
                } else {
                    joined.push(segment);
                }
            }
            _ => joined.push(segment),
        }
    }
    joined
}

/// Returns the parts of intervals where the ledger knows that no record of the type stands: whole there, and in no range.
pub fn empty_parts(indexed: &[Interval], ranges: &[Known]) -> Vec<Interval> {
    let held = ranges.iter().map(|range| range.interval);
    let free = holes(Interval::new(Offset(0), Offset(u64::MAX)), held);
    common(&union(indexed.iter().copied()), &free)
}

/// Returns what two lists of ascending, disjoint intervals have in common.
pub fn common(one: &[Interval], other: &[Interval]) -> Vec<Interval> {
    let (mut here, mut there, mut common) = (0, 0, Vec::new());
    while let (Some(left), Some(right)) = (one.get(here), other.get(there)) {
        let both = clip(*left, *right);
        if !both.is_empty() {
            common.push(both);
        }
        if left.end <= right.end {
            here += 1;
        } else {
            there += 1;
        }
    }
    common
}

/// Tells whether one of these ascending, disjoint intervals holds the whole of another.
pub fn holds(intervals: &[Interval], whole: Interval) -> bool {
    let place = intervals.partition_point(|interval| interval.end < whole.end);
    intervals
        .get(place)
        .is_some_and(|interval| interval.start <= whole.start && whole.end <= interval.end)
}

/// Cuts segments into slices of at most so many positions, all of about the same length.
pub fn cut(segments: &[Segment], most: u64) -> Vec<Segment> {
    let mut slices = Vec::new();
    for segment in segments {
        let length = segment.interval.end.0.saturating_sub(segment.interval.start.0);
        let pieces = length.div_ceil(most.max(1));
        let mut start = segment.interval.start.0;
        for left in (1..=pieces).rev() {
            let end = start + (segment.interval.end.0 - start).div_ceil(left);
            slices.push(Segment {
                interval: Interval::new(Offset(start), Offset(end)),
                filter: segment.filter,
            });
            start = end;
        }
    }
    slices
}

/// Returns what an interval has in common with another.
pub fn clip(interval: Interval, within: Interval) -> Interval {
    Interval::new(interval.start.max(within.start), interval.end.min(within.end))
}

/// Returns how many positions intervals hold.
pub fn length(intervals: impl IntoIterator<Item = Interval>) -> u64 {
    let lengths = intervals.into_iter();
    lengths
        .map(|interval| interval.end.0.saturating_sub(interval.start.0))
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_shared::ledger::Millis;

    use super::*;

    pub(super) fn interval((start, end): (u64, u64)) -> Interval {
        Interval::new(Offset(start), Offset(end))
    }

    fn known(bounds: (u64, u64)) -> Known {
        Known {
            interval: interval(bounds),
            records: 1,
            record_times: None,
            processing_times: (Millis(0), Millis(0)),
            whitelist: None,
        }
    }

    fn segment(bounds: (u64, u64), filter: Option<u32>) -> Segment {
        Segment {
            interval: interval(bounds),
            filter,
        }
    }

    #[test]
    fn segments_of_one_list_are_joined_over_short_empty_gaps_only() {
        let segments = [
            segment((0, 10), Some(1)),
            segment((12, 20), Some(1)),
            segment((30, 40), Some(1)),
            segment((40, 50), None),
            segment((50, 60), None),
            segment((200, 210), None),
        ];
        let empty = [interval((10, 12)), interval((60, 200))];
        let joined = join(segments.to_vec(), 100, |gap| holds(&empty, gap));
        assert_eq!(
            joined,
            [
                segment((0, 20), Some(1)),
                segment((30, 40), Some(1)),
                segment((40, 60), None),
                segment((200, 210), None)
            ]
        );
    }

    #[test]
    fn slices_are_of_about_one_length() {
        let slices = cut(&[segment((5, 26), None), segment((30, 30), None)], 10);
        assert_eq!(
            slices,
            [(5, 12), (12, 19), (19, 26)].map(|bounds| segment(bounds, None))
        );
    }

    proptest! {
        #[test]
        fn sweeping_tells_for_each_position_which_ranges_hold_it(
            bounds in prop::collection::vec((0_u64..50, 0_u64..50), 0..8), from in 0_u64..50, to in 0_u64..50,
        ) {
            let ranges: Vec<Known> = bounds.into_iter().map(known).collect();
            let swept = sweep(&ranges, interval((from, to)));
            prop_assert!(swept.windows(2).all(|pair| pair[0].0.end <= pair[1].0.start));
            for position in 0..50 {
                let at = Offset(position);
                let holding = |interval: Interval| interval.start <= at && at < interval.end;
                let mut expected: Vec<usize> = (0..ranges.len()).filter(|place| holding(ranges[*place].interval)).collect();
                if !(from..to).contains(&position) { expected.clear(); }
                let mut told: Vec<usize> = swept.iter().filter(|(interval, _)| holding(*interval))
                    .flat_map(|(_, places)| places.clone()).collect();
                told.sort_unstable();
                prop_assert_eq!(told, expected);
            }
        }

        #[test]
        fn slices_cover_exactly_the_segments_and_are_never_longer_than_allowed(
            lengths in prop::collection::vec((0_u64..40, 0_u64..100), 0..6), most in 1_u64..30,
        ) {
            let (mut segments, mut at) = (Vec::new(), 0);
            for (gap, length) in lengths {
                segments.push(segment((at + gap, at + gap + length), None));
                at += gap + length;
            }
            let slices = cut(&segments, most);
            for slice in &slices {
                let length = slice.interval.end.0 - slice.interval.start.0;
                prop_assert!(0 < length && length <= most);
            }
            for position in 0..at {
                let within = |segment: &&Segment| (segment.interval.start.0..segment.interval.end.0).contains(&position);
                prop_assert_eq!(segments.iter().filter(within).count(), slices.iter().filter(within).count());
            }
        }
    }
}
