//! Intervals of positions: their union, and what it leaves out. Pure.

use crate::position::Offset;

/// The positions `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interval {
    /// The first position.
    pub start: Offset,
    /// The position after the last.
    pub end: Offset,
}

impl Interval {
    /// Makes an interval; an end at or below the start makes an empty one.
    pub fn new(start: Offset, end: Offset) -> Self {
        Self { start, end }
    }

    /// Tells whether it holds no position.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }
}

/// Returns the union as disjoint, not adjacent, ascending intervals.
pub fn union(intervals: impl IntoIterator<Item = Interval>) -> Vec<Interval> {
    let mut sorted: Vec<_> = intervals.into_iter().filter(|interval| !interval.is_empty()).collect();
    sorted.sort_unstable();
    let mut united: Vec<Interval> = Vec::with_capacity(sorted.len());
    for interval in sorted {
        match united.last_mut() {
            Some(last) if interval.start <= last.end => last.end = last.end.max(interval.end),
            _ => united.push(interval),
        }
    }
    united
}

/// Returns the parts of `within` that no interval covers, ascending.
pub fn holes(within: Interval, covered: impl IntoIterator<Item = Interval>) -> Vec<Interval> {
    let mut holes = Vec::new();
    let mut position = within.start;
    for interval in union(covered) {
        let hole = Interval::new(position, interval.start.min(within.end));
        if !hole.is_empty() {
            holes.push(hole);
        }
        position = position.max(interval.end);
    }
    let rest = Interval::new(position, within.end);
    if !rest.is_empty() {
        holes.push(rest);
    }
    holes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interval((start, end): (u64, u64)) -> Interval {
        Interval::new(Offset(start), Offset(end))
    }

    fn contains(intervals: &[Interval], position: u64) -> bool {
        intervals
            .iter()
            .any(|interval| (interval.start.0..interval.end.0).contains(&position))
    }

    #[test]
    fn adjacent_intervals_become_one_and_a_gap_stays_a_hole() {
        let covered = [(0, 10), (10, 20), (25, 30), (5, 7)].map(interval);
        assert_eq!(union(covered), [(0, 20), (25, 30)].map(interval));
        assert_eq!(holes(interval((0, 40)), covered), [(20, 25), (30, 40)].map(interval));
        assert_eq!(holes(interval((22, 28)), covered), [(22, 25)].map(interval));
        assert_eq!(holes(interval((3, 3)), covered), []);
    }

    proptest! {
        #[test]
        fn every_position_is_either_covered_or_in_a_hole(
            covered in prop::collection::vec((0_u64..60, 0_u64..60), 0..12), from in 0_u64..60, to in 0_u64..60,
        ) {
            let covered: Vec<_> = covered.into_iter().map(interval).collect();
            let (united, holes) = (union(covered.clone()), holes(interval((from, to)), covered.clone()));
            for position in 0..60 {
                prop_assert_eq!(contains(&united, position), contains(&covered, position));
                let wanted = (from..to).contains(&position) && !contains(&covered, position);
                prop_assert_eq!(contains(&holes, position), wanted);
            }
            prop_assert!(united.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
