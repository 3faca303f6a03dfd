use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::member::Source;
use super::*;
use crate::catalog::TypeIndex;
use crate::ledger::{Interval, RunId, TypeTally, holes, union};
use crate::position::{Partition, TopicId, TopicName, TopicPartition};
use crate::tally::{RecordCounts, RowCounts};
use crate::whitelist::Version;

const SECOND: i64 = 1_000;

fn ledger(run: &str, limits: Limits) -> PartitionLedger {
    let identity = Identity {
        partition: TopicPartition {
            topic: TopicName::new("t"),
            partition: Partition(0),
        },
        topic_id: TopicId::new("id"),
        run: RunId::new(run),
        source: Source::Live,
    };
    PartitionLedger::new(identity, vec!["basic".to_owned(), "risk".to_owned()].into(), limits)
}

fn tally(start: u64, end: u64) -> TypeTally {
    let count = end - start;
    TypeTally {
        records: RecordCounts {
            processed: count,
            ..RecordCounts::default()
        },
        rows: RowCounts {
            written: 2 * count,
            ..RowCounts::default()
        },
        start: Offset(start),
        end: Offset(end),
        first_record: Some(Millis(7)),
        last_record: Some(Millis(9)),
    }
}

fn chunk(start: u64, end: u64, whitelist: u64, at: i64) -> ChunkTally {
    ChunkTally {
        start: Offset(start),
        end: Offset(end),
        whitelist: Version(whitelist),
        first_processed: Millis(at),
        last_processed: Millis(at + 10),
        types: vec![(Some(TypeIndex((start % 2) as usize)), tally(start, end))],
    }
}

fn spans(update: &Update) -> Vec<(u64, u64, u64)> {
    let mut spans: Vec<_> = update
        .ranges
        .iter()
        .map(|(_, range)| (range.segment.0, range.start.0, range.end.0))
        .collect();
    spans.sort_unstable();
    spans
}

#[test]
fn the_open_segment_grows_and_is_sent_in_absolute_values() {
    let mut ledger = ledger("r", Limits::default());
    assert_eq!(ledger.pending(Millis(0)), None);
    ledger.add(&chunk(100, 110, 1, 0)).expect("in order");
    let first = ledger.pending(Millis(20)).expect("an open segment");
    ledger.add(&chunk(110, 130, 1, 30)).expect("in order");
    let second = ledger.pending(Millis(50)).expect("an open segment");
    assert_eq!(
        (spans(&first), spans(&second)),
        (vec![(100, 100, 110)], vec![(100, 100, 130)])
    );
    assert_eq!(second.ranges[0].1.rows.written, 60);
    assert_eq!(second.coverage[0].interval(), Interval::new(Offset(100), Offset(130)));
    assert_eq!((ledger.unwritten_records(), ledger.durable_end()), (30, None));
    ledger.written(&second);
    ledger.written(&first);
    assert_eq!(
        (ledger.unwritten_records(), ledger.durable_end()),
        (0, Some(Offset(130)))
    );
    assert_eq!(ledger.oldest_unwritten_age(Millis(99)), None);
}

#[test]
fn segments_are_sealed_by_time_by_records_by_whitelist_and_at_a_gap() {
    let limits = Limits {
        seal_records: 100,
        ..Limits::default()
    };
    let mut ledger = ledger("r", limits);
    for next in [
        chunk(0, 60, 1, 0),
        chunk(60, 120, 1, 10),                // records
        chunk(120, 130, 2, 20),               // whitelist
        chunk(140, 150, 2, 30),               // gap
        chunk(150, 160, 2, 60 * SECOND + 31), // time
    ] {
        ledger.add(&next).expect("in order");
    }
    let update = ledger.pending(Millis(60 * SECOND + 40)).expect("segments");
    let starts: Vec<_> = spans(&update).iter().map(|(segment, ..)| *segment).collect();
    assert_eq!(starts, [0, 60, 120, 140, 150]);
    let covered: Vec<_> = update.coverage.iter().map(Coverage::interval).collect();
    assert_eq!(
        covered,
        [
            Interval::new(Offset(0), Offset(130)),
            Interval::new(Offset(140), Offset(160))
        ]
    );
}

#[test]
fn a_written_segment_is_sent_for_a_minute_after_it_was_sealed_and_then_no_more() {
    let mut ledger = ledger("r", Limits::default());
    ledger.add(&chunk(0, 10, 1, 0)).expect("in order");
    let sealing = ledger.pending(Millis(60 * SECOND)).expect("sealed by time");
    ledger.written(&sealing);
    assert_eq!(
        spans(&ledger.pending(Millis(119 * SECOND)).expect("sent again")),
        spans(&sealing)
    );
    assert_eq!(ledger.pending(Millis(120 * SECOND)), None);
}

#[test]
fn what_was_never_written_is_kept_however_old() {
    let mut ledger = ledger(
        "r",
        Limits {
            max_unwritten_records: 25,
            ..Limits::default()
        },
    );
    ledger.add(&chunk(0, 20, 1, 0)).expect("in order");
    assert!(!ledger.is_over_limit(Millis(SECOND)));
    assert!(ledger.is_over_limit(Millis(600 * SECOND)), "by age");
    let hour = 3_600 * SECOND;
    ledger.add(&chunk(20, 30, 1, hour)).expect("in order");
    assert!(ledger.is_over_limit(Millis(hour)), "by records");
    assert_eq!(
        ledger.oldest_unwritten_age(Millis(hour)),
        Some(Duration::from_secs(3_600))
    );
    let update = ledger.pending(Millis(hour + 1)).expect("everything");
    assert_eq!(update.coverage[0].interval(), Interval::new(Offset(0), Offset(30)));
    ledger.written(&update);
    assert!(!ledger.is_over_limit(Millis(hour + 1)));
    ledger.add(&chunk(30, 40, 1, hour + 500)).expect("in order");
    assert_eq!(
        ledger.oldest_unwritten_age(Millis(hour + 1_001)),
        Some(Duration::from_secs(1))
    );
}

#[test]
fn a_backlog_goes_in_bounded_calls_oldest_first() {
    let mut ledger = ledger(
        "r",
        Limits {
            max_segments_per_call: 2,
            ..Limits::default()
        },
    );
    for number in 0..5 {
        ledger
            .add(&chunk(number * 10, number * 10 + 10, number, 0))
            .expect("in order");
    }
    let mut ends = Vec::new();
    for _ in 0..4 {
        let update = ledger.pending(Millis(1)).expect("segments");
        assert!(update.ranges.len() <= 2);
        ledger.written(&update);
        ends.push(ledger.durable_end().expect("written").0);
    }
    assert_eq!(ends, [20, 40, 50, 50]);
    assert_eq!(ledger.unwritten_records(), 0);
}

#[test]
fn a_chunk_that_overlaps_or_is_empty_is_refused_and_changes_nothing() {
    let mut ledger = ledger("r", Limits::default());
    ledger.add(&chunk(0, 10, 1, 0)).expect("in order");
    let refused = ledger.add(&chunk(9, 20, 1, 0));
    assert_eq!(
        refused,
        Err(AddError::OutOfOrder {
            expected: Offset(10),
            start: Offset(9)
        })
    );
    assert!(matches!(ledger.add(&chunk(10, 10, 1, 0)), Err(AddError::Empty { .. })));
    assert_eq!((ledger.added_end(), ledger.unwritten_records()), (Some(Offset(10)), 10));
}

#[test]
fn an_update_of_another_run_counts_for_nothing() {
    let (mut one, mut other) = (ledger("one", Limits::default()), ledger("other", Limits::default()));
    for run in [&mut one, &mut other] {
        run.add(&chunk(0, 10, 1, 0)).expect("in order");
    }
    one.written(&other.pending(Millis(1)).expect("open"));
    assert_eq!(one.durable_end(), None);
}

/// Redis as the write script leaves it.
#[derive(Clone, Default)]
struct Store {
    ranges: BTreeMap<(String, RunId, u64), Range>,
    coverage: Vec<Interval>,
}

impl Store {
    fn take(&mut self, update: &Update) {
        for (data_type, range) in &update.ranges {
            self.ranges
                .insert((data_type.clone(), range.run.clone(), range.segment.0), range.clone());
        }
        self.coverage = union(
            self.coverage
                .drain(..)
                .chain(update.coverage.iter().map(Coverage::interval)),
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    Process { records: u64, whitelist_changes: bool },
    Wait { seconds: i64 },
    Write,
    WriteUnanswered,
    Commit,
    Crash,
    LoseWrites { last: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_u64..40, prop::bool::weighted(0.1))
            .prop_map(|(records, whitelist_changes)| Step::Process { records, whitelist_changes }),
        2 => (1_i64..50).prop_map(|seconds| Step::Wait { seconds }),
        5 => Just(Step::Write),
        1 => Just(Step::WriteUnanswered),
        3 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => (1_usize..4).prop_map(|last| Step::LoseWrites { last }),
    ];
    prop::collection::vec(step, 1..120)
}

/// One worker after the other on one partition, with the store's whole history.
struct World {
    ledger: PartitionLedger,
    history: Vec<Store>,
    processed: BTreeSet<u64>,
    added_by_run: BTreeMap<RunId, (RecordCounts, RowCounts)>,
    position: u64,
    committed: u64,
    whitelist: u64,
    now: i64,
    runs: u64,
}

impl World {
    fn limits() -> Limits {
        Limits {
            seal_records: 100,
            max_segments_per_call: 8,
            ..Limits::default()
        }
    }

    fn new() -> Self {
        Self {
            ledger: ledger("run-0", Self::limits()),
            history: vec![Store::default()],
            processed: BTreeSet::new(),
            added_by_run: BTreeMap::new(),
            position: 0,
            committed: 0,
            whitelist: 1,
            now: 0,
            runs: 0,
        }
    }

    fn store(&self) -> &Store {
        self.history.last().expect("begins with an empty store")
    }

    fn write(&mut self, answered: bool) {
        let Some(update) = self.ledger.pending(Millis(self.now)) else {
            return;
        };
        let mut store = self.store().clone();
        store.take(&update);
        self.history.push(store);
        if answered {
            self.ledger.written(&update);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Process {
                records,
                whitelist_changes,
            } => {
                self.whitelist += u64::from(whitelist_changes);
                let next = chunk(self.position, self.position + records, self.whitelist, self.now);
                self.ledger.add(&next).expect("in order");
                let sum = self.added_by_run.entry(self.ledger.identity.run.clone()).or_default();
                sum.0 += next.types[0].1.records;
                sum.1 += next.types[0].1.rows;
                self.processed.extend(self.position..self.position + records);
                self.position += records;
            }
            Step::Wait { seconds } => self.now += seconds * SECOND,
            Step::Write => self.write(true),
            Step::WriteUnanswered => self.write(false),
            Step::Commit => self.committed = self.ledger.durable_end().map_or(self.committed, |end| end.0),
            Step::Crash => {
                self.runs += 1;
                self.ledger = ledger(&format!("run-{}", self.runs), Self::limits());
                self.position = self.committed;
            }
            Step::LoseWrites { last } => {
                let kept = self.history.len().saturating_sub(last).max(1);
                self.history.truncate(kept);
            }
        }
    }
}

proptest! {
    #[test]
    fn i3_coverage_never_claims_what_was_not_processed_and_a_commit_never_passes_it(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            let claimed = &world.store().coverage;
            for interval in claimed {
                let claims = interval.start.0..interval.end.0;
                prop_assert!(claims.clone().all(|position| world.processed.contains(&position)), "{claims:?}");
            }
            let lost = steps.iter().any(|step| matches!(step, Step::LoseWrites { .. }));
            if !lost {
                let committed = Interval::new(Offset(0), Offset(world.committed));
                prop_assert_eq!(holes(committed, claimed.iter().copied()), []);
            }
        }
    }

    #[test]
    fn the_ranges_of_a_run_sum_up_to_what_it_added(steps in steps()) {
        let mut world = World::new();
        for step in steps.iter().filter(|step| !matches!(step, Step::Crash | Step::LoseWrites { .. })) {
            world.take(step);
        }
        while world.ledger.unwritten_records() > 0 {
            world.write(true);
        }
        let before = world.store().ranges.len();
        world.write(true);
        prop_assert_eq!(world.store().ranges.len(), before, "the same again changes nothing");
        for (run, added) in &world.added_by_run {
            let mut sum = <(RecordCounts, RowCounts)>::default();
            for ((_, of, _), range) in &world.store().ranges {
                if of == run {
                    sum.0 += range.records;
                    sum.1 += range.rows;
                }
            }
            prop_assert_eq!(&sum, added);
        }
    }
}
