//! Which list of ids counts for which positions. Pure.

use reprise_shared::ledger::{Interval, holes};
use reprise_shared::position::Offset;

use super::ask::{Records, Replay};
use super::facts::{Known, PartitionFacts, TypeLedger, TypePassing};
use super::ids::{Filters, Passing};
use super::segments::{Segment, clip, common, empty_parts, sweep};
use super::wanted::{Wanted, is_since};

/// Positions with their lists.
#[derive(Debug, Default)]
pub struct Labelled {
    /// What is read, ascending and disjoint.
    pub segments: Vec<Segment>,
    /// What should be read and was deleted.
    pub expired: Vec<Interval>,
    /// What is left out because the ledger does not know it.
    pub unknown: Vec<Interval>,
    /// Where no record of the type stands.
    pub empty_parts: Vec<Interval>,
    /// Records between two segments are left out by their own time.
    pub gaps_are_judged: bool,
    /// Everybody passes now, so those who did before cannot be left out.
    pub cannot_exclude: bool,
}

/// Gives positions their lists.
pub fn label(
    replay: &Replay,
    passing: &TypePassing,
    partition: &PartitionFacts,
    ledger: &TypeLedger,
    wanted: &Wanted,
    filters: &mut Filters,
) -> Labelled {
    let indexed = partition.indexed(ledger);
    let labelled = match &replay.records {
        Records::CatchUp { since } => {
            let judged: Vec<Known> = ledger
                .ranges
                .iter()
                .filter(|range| is_since(range, *since))
                .cloned()
                .collect();
            // A record that was judged twice, after a crash, is late only if it passed neither time.
            let mut labelled = by_ranges(&judged, passing, wanted, filters, Passing::and);
            labelled.cannot_exclude = labelled.segments.iter().any(|segment| segment.filter.is_none());
            labelled.unknown = holes(partition.processed(), indexed.iter().copied());
            labelled
        }
        Records::Offsets(_) | Records::Times(_) if replay.compares() && !replay.ignore_whitelist => {
            let mut labelled = by_ranges(&ledger.ranges, passing, wanted, filters, Passing::or);
            let unknown = wanted
                .positions
                .iter()
                .flat_map(|wanted| holes(*wanted, indexed.iter().copied()));
            labelled.unknown = unknown.collect();
            labelled.expired.clone_from(&wanted.expired);
            labelled
        }
        Records::Offsets(_) | Records::Times(_) => by_one_list(replay, passing, wanted, filters),
    };
    Labelled {
        empty_parts: match &replay.records {
            Records::Offsets(_) if !replay.compares() => Vec::new(),
            Records::Offsets(_) | Records::Times(_) | Records::CatchUp { .. } => empty_parts(&indexed, &ledger.ranges),
        },
        ..labelled
    }
}

/// Returns segments that let everything through.
pub fn segments_of_all(wanted: &Wanted) -> Vec<Segment> {
    segments(&wanted.positions, None)
}

fn by_one_list(replay: &Replay, passing: &TypePassing, wanted: &Wanted, filters: &mut Filters) -> Labelled {
    if passing.now.is_nobody() {
        return Labelled::default();
    }
    Labelled {
        segments: if wanted.is_nothing() {
            Vec::new()
        } else {
            segments(&wanted.positions, filters.place(&passing.now))
        },
        expired: wanted.expired.clone(),
        gaps_are_judged: !replay.compares() && matches!(&replay.records, Records::Times(times) if times.by_record),
        ..Labelled::default()
    }
}

/// Gives each position the list of the ranges that hold it; positions in no range hold no record.
fn by_ranges(
    ranges: &[Known],
    passing: &TypePassing,
    wanted: &Wanted,
    filters: &mut Filters,
    both: fn(&Passing, &Passing) -> Passing,
) -> Labelled {
    let nobody = Passing::Only(std::collections::BTreeSet::new());
    let mut labelled = Labelled::default();
    for (interval, places) in sweep(ranges, Interval::new(Offset(0), Offset(u64::MAX))) {
        let lists = places.iter().map(|place| {
            let version = ranges[*place].whitelist;
            // A version that is not on record is as none.
            let list = passing
                .by_version
                .get(&version)
                .or_else(|| passing.by_version.get(&None));
            list.unwrap_or(&nobody)
        });
        let list = lists
            .cloned()
            .reduce(|one, other| both(&one, &other))
            .unwrap_or(Passing::All);
        if list.is_nobody() {
            continue;
        }
        let here = common(&[interval], &wanted.positions);
        if !here.is_empty() {
            labelled.segments.extend(segments(&here, filters.place(&list)));
        }
        let deleted = wanted.expired.iter().map(|expired| clip(*expired, interval));
        labelled.expired.extend(deleted.filter(|deleted| !deleted.is_empty()));
    }
    labelled.expired = reprise_shared::ledger::union(std::mem::take(&mut labelled.expired));
    labelled
}

fn segments(positions: &[Interval], filter: Option<u32>) -> Vec<Segment> {
    let positions = positions.iter();
    positions
        .map(|interval| Segment {
            interval: *interval,
            filter,
        })
        .collect()
}
