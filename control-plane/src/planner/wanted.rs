//! Which positions of one data type in one partition an ask comes to, and which of them Kafka has deleted. Pure.

use reprise_shared::ledger::{Interval, holes, union};
use reprise_shared::position::Offset;
use reprise_shared::whitelist::Version;

use super::ask::{Records, Replay, Times};
use super::facts::{Known, PartitionFacts, TypeLedger};
use super::segments::clip;
use crate::offsets::window::Basis;

/// Where positions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Source {
    /// They were asked for.
    Request,
    /// The ranges on record.
    Ledger,
    /// The broker's index of times, in part at least.
    Broker,
}

/// The positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Those that Kafka has, ascending and disjoint.
    pub positions: Vec<Interval>,
    /// Those that it has deleted, ascending and disjoint.
    pub expired: Vec<Interval>,
    /// Where they come from.
    pub source: Source,
    /// The end that was asked for, where it lies beyond the cap.
    pub capped: Option<Offset>,
    /// Kafka has deleted positions that the ledger does not know, and they are taken to be older than the window.
    pub is_forgetful: bool,
}

/// Returns the position before which a replay ends: live traffic's own where the two are compared.
pub fn cap(replay: &Replay, partition: &PartitionFacts) -> Offset {
    if replay.compares() {
        let committed = partition.committed.unwrap_or(partition.log.start);
        committed.min(partition.log.end)
    } else {
        partition.log.end
    }
}

/// Finds the positions of a replay.
pub fn wanted(replay: &Replay, partition: &PartitionFacts, ledger: &TypeLedger) -> Wanted {
    let cap = cap(replay, partition);
    match &replay.records {
        Records::Offsets(asked) => {
            let of_partition = asked
                .iter()
                .filter(|asked| asked.topic == partition.at.topic && asked.partition == partition.at.partition);
            by_offsets(partition, of_partition.map(super::ask::PartitionOffsets::interval), cap)
        }
        Records::Times(times) => match times.basis() {
            Basis::Record => by_record_time(partition, ledger, times, cap),
            Basis::Processed => by_processing_time(partition, ledger, times, cap),
        },
        Records::CatchUp { since } => {
            let judged = ledger.ranges.iter().filter(|range| is_since(range, *since));
            split(partition, judged.map(|range| range.interval), cap, Source::Ledger)
        }
    }
}

/// Finds positions that are asked for as they are.
pub fn by_offsets(partition: &PartitionFacts, asked: impl Iterator<Item = Interval>, cap: Offset) -> Wanted {
    let asked = union(asked);
    let end = asked.last().map(|last| last.end);
    Wanted {
        capped: end.filter(|end| *end > cap),
        ..split(partition, asked.into_iter(), cap, Source::Request)
    }
}

/// Tells whether a range was judged at a version or later. A rebuilt range has none, and counts.
pub fn is_since(range: &Known, since: Version) -> bool {
    range.whitelist.is_none_or(|version| version >= since)
}

fn by_record_time(partition: &PartitionFacts, ledger: &TypeLedger, times: &Times, cap: Offset) -> Wanted {
    let (log, window) = (partition.log, times.window());
    let indexed = partition.indexed(ledger);
    // No record of the window stands before the broker's first one.
    let from = partition.first.unwrap_or(log.end);
    let meeting = ledger.ranges.iter().filter(|range| {
        let times = range.record_times;
        times.is_some_and(|times| window.touches(times))
    });
    let meeting: Vec<Interval> = meeting.map(|range| range.interval).collect();
    let unknown = holes(Interval::new(from, cap.min(partition.beyond)), indexed.iter().copied());
    let in_log = Interval::new(log.start.max(from), cap);
    let found = meeting.iter().chain(&unknown).map(|interval| clip(*interval, in_log));
    let deleted = Interval::new(Offset(0), log.start.min(cap));
    let known_from = known_from(partition, ledger, times);
    let unknown_deleted = holes(Interval::new(known_from, deleted.end), indexed.iter().copied());
    let forgotten = holes(
        Interval::new(Offset(0), known_from.min(deleted.end)),
        indexed.iter().copied(),
    );
    let expired = meeting
        .iter()
        .map(|interval| clip(*interval, deleted))
        .chain(unknown_deleted);
    let source = if unknown.is_empty() {
        Source::Ledger
    } else {
        Source::Broker
    };
    Wanted {
        positions: union(found),
        expired: union(expired),
        source,
        capped: None,
        is_forgetful: !forgotten.is_empty() && (log.is_empty() || partition.first == Some(log.start)),
    }
}

/// From where on deleted positions that the ledger does not know count as missing. Those before a deleted range that
/// began before the window are taken to be older than it; so are all, where the log has a record from before it, and
/// where nothing at all is left of a partition.
fn known_from(partition: &PartitionFacts, ledger: &TypeLedger, times: &Times) -> Offset {
    let (log, window) = (partition.log, times.window());
    let began_before = |range: &&Known| {
        let before = |(first, _)| window.start.is_some_and(|start| first < start);
        range.interval.start < log.start && range.record_times.is_some_and(before)
    };
    let before = ledger
        .ranges
        .iter()
        .filter(began_before)
        .map(|range| range.interval.start)
        .max();
    match before {
        Some(start) => start,
        None if partition.first == Some(log.start) => Offset(0),
        None => log.start,
    }
}

fn by_processing_time(partition: &PartitionFacts, ledger: &TypeLedger, times: &Times, cap: Offset) -> Wanted {
    let window = times.window();
    let processed = ledger
        .ranges
        .iter()
        .filter(|range| window.touches(range.processing_times));
    split(partition, processed.map(|range| range.interval), cap, Source::Ledger)
}

/// Parts positions at the log's start.
fn split(partition: &PartitionFacts, asked: impl Iterator<Item = Interval>, cap: Offset, source: Source) -> Wanted {
    let asked = union(asked);
    let (log, deleted) = (
        Interval::new(partition.log.start, cap),
        Interval::new(Offset(0), partition.log.start.min(cap.max(partition.log.start))),
    );
    let within = |bounds: Interval| union(asked.iter().map(|interval| clip(*interval, bounds)));
    Wanted {
        positions: within(log),
        expired: within(deleted),
        source,
        capped: None,
        is_forgetful: false,
    }
}
