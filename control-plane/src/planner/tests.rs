//! Plans against an oracle that knows every record: which records the slices let through, each exactly once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use reprise_shared::jobs::model::Mode;
use reprise_shared::ledger::{Interval, Millis, holes, union};
use reprise_shared::position::{Offset, Partition, TopicGeneration, TopicId, TopicName, TopicPartition};
use reprise_shared::whitelist::Version;

use super::ask::{Ask, PartitionOffsets, Rebuild, Records, Replay, Times, Work};
use super::draft::{Draft, Slice};
use super::facts::{Facts, Known, PartitionFacts, TypeLedger, TypePassing};
use super::ids::{Passing, late};
use super::plan::{Limits, Refusal, plan};

const TYPE: &str = "fund_risk";
const LIMITS: Limits = Limits {
    max_slice: 7,
    max_tasks: 1_000,
    max_filter_ids: 1_000,
};

/// One record of the topic; `of_type` tells whether it is of [`TYPE`].
#[derive(Clone, Debug)]
struct Record {
    of_type: bool,
    id: u8,
    time: i64,
}

/// A partition, and what live traffic did with it.
#[derive(Clone, Debug)]
struct World {
    records: Vec<Record>,
    log_start: u64,
    committed: u64,
    /// Segments by their ends, each with its version.
    segments: Vec<(u64, u64)>,
    holes: Vec<Interval>,
    indexed_from: u64,
    /// By version; an empty one lets everybody through.
    whitelists: Vec<BTreeSet<u8>>,
    ids: Option<BTreeSet<u8>>,
    /// What was passed over and is owed.
    deferred: Vec<Interval>,
}

fn interval(start: u64, end: u64) -> Interval {
    Interval::new(Offset(start), Offset(end))
}

fn name(id: u8) -> String {
    format!("id-{id}")
}

fn passing(ids: &BTreeSet<u8>) -> Passing {
    if ids.is_empty() {
        Passing::All
    } else {
        Passing::Only(ids.iter().copied().map(name).collect())
    }
}

fn contains(interval: Interval, offset: u64) -> bool {
    interval.start.0 <= offset && offset < interval.end.0
}

impl World {
    /// The version that judged an offset, and its segment's number; none where it was not processed.
    fn judged(&self, offset: u64) -> Option<(usize, Version)> {
        if offset >= self.committed || self.holes.iter().any(|hole| contains(*hole, offset)) {
            return None;
        }
        let place = self.segments.iter().position(|(end, _)| offset < *end)?;
        Some((place, Version(self.segments[place].1)))
    }

    /// As [`Self::judged`], where the ledger still knows it.
    fn known(&self, offset: u64) -> Option<(usize, Version)> {
        self.judged(offset).filter(|_| offset >= self.indexed_from)
    }

    fn covered(&self) -> Vec<Interval> {
        let end = self.segments.last().map_or(0, |(end, _)| *end).min(self.committed);
        holes(interval(0, end), self.holes.iter().copied())
    }

    /// Ranges as ingest writes them: per segment and connected piece, from the type's first record to its last.
    fn ranges(&self) -> Vec<Known> {
        let mut groups: BTreeMap<(usize, usize), Vec<u64>> = BTreeMap::new();
        let covered = self.covered();
        for offset in 0..self.records.len() as u64 {
            let piece = covered.iter().position(|piece| contains(*piece, offset));
            if let (Some((segment, _)), Some(piece)) = (self.known(offset), piece)
                && self.records[offset as usize].of_type
            {
                groups.entry((segment, piece)).or_default().push(offset);
            }
        }
        let ranges = groups.into_iter().map(|((segment, _), offsets)| {
            let times = offsets.iter().map(|offset| self.records[*offset as usize].time);
            let (first, last) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
            let processed = Millis(segment as i64 * 10);
            Known {
                interval: interval(offsets[0], offsets[offsets.len() - 1] + 1),
                records: offsets.len() as u64,
                record_times: Some((Millis(first), Millis(last))),
                processing_times: (processed, Millis(processed.0 + 9)),
                whitelist: Some(Version(self.segments[segment].1)),
            }
        });
        ranges.collect()
    }

    fn facts(&self, replay: Option<&Replay>) -> Facts {
        let end = self.records.len() as u64;
        let window = replay.and_then(|replay| match &replay.records {
            Records::Times(times) if times.by_record => Some(times.window()),
            _ => None,
        });
        let first = window.and_then(|window| {
            let start = window.start?.0;
            (self.log_start..end).find(|offset| self.records[*offset as usize].time >= start)
        });
        let asked = self.ids.as_ref().map_or(Passing::All, |ids| {
            Passing::Only(ids.iter().copied().map(name).collect())
        });
        let now = passing(self.whitelists.last().expect("a version"));
        let compares = replay.is_some_and(Replay::compares);
        let catches_up = replay.is_some_and(|replay| matches!(replay.records, Records::CatchUp { .. }));
        let by_version = self.whitelists.iter().enumerate().map(|(version, list)| {
            let then = passing(list);
            let judged = if compares {
                then.and(&asked)
            } else {
                late(&now, &then, &asked)
            };
            (Some(Version(version as u64)), judged)
        });
        let one_list = match &self.ids {
            Some(_) => asked.clone(),
            None if compares || catches_up => Passing::All,
            None => now.clone(),
        };
        let types = TypePassing {
            now: one_list,
            by_version: by_version.collect(),
        };
        let ledger = TypeLedger {
            indexed_from: Offset(self.indexed_from),
            ranges: self.ranges(),
            deferred: self.deferred.clone(),
        };
        let partition = PartitionFacts {
            at: TopicPartition {
                topic: TopicName::new("fund-data"),
                partition: Partition(3),
            },
            topic_id: TopicId::new("t"),
            generation: TopicGeneration(0),
            log: interval(self.log_start, end),
            committed: Some(Offset(self.committed)),
            first: first.map(Offset),
            beyond: Offset(end),
            covered: self.covered(),
            ledger: BTreeMap::from([(TYPE.to_owned(), ledger)]),
        };
        Facts {
            partitions: vec![partition],
            types: BTreeMap::from([(TYPE.to_owned(), types)]),
        }
    }

    fn plan(&self, replay: Replay) -> Result<Draft, Refusal> {
        let facts = self.facts(Some(&replay));
        plan(&ask(Work::Replay(replay)), &facts, &LIMITS)
    }

    /// How often the slices let each record of the type through.
    fn let_through(&self, draft: &Draft) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for slice in &draft.slices {
            for offset in slice.start.0..slice.end.0 {
                let record = &self.records[offset as usize];
                if record.of_type && passes(slice, draft, record) {
                    *counts.entry(offset).or_default() += 1;
                }
            }
        }
        counts
    }

    /// Offsets of the type in the log that a rule lets through.
    fn expected(&self, rule: impl Fn(u64, &Record) -> bool) -> BTreeMap<u64, usize> {
        let log = self.log_start..self.records.len() as u64;
        log.filter(|offset| {
            let record = &self.records[*offset as usize];
            record.of_type && rule(*offset, record)
        })
        .map(|offset| (offset, 1))
        .collect()
    }

    fn allows(&self, version: usize, id: u8) -> bool {
        let list = &self.whitelists[version];
        list.is_empty() || list.contains(&id)
    }

    fn asked(&self, id: u8) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&id))
    }

    fn now(&self) -> usize {
        self.whitelists.len() - 1
    }
}

fn passes(slice: &Slice, draft: &Draft, record: &Record) -> bool {
    let by_id = slice
        .filter
        .is_none_or(|filter| draft.filters[filter as usize].contains(&name(record.id)));
    let after = slice.record_time_from.is_none_or(|from| record.time >= from.0);
    let before = slice.record_time_to.is_none_or(|to| record.time < to.0);
    by_id && after && before
}

fn ask(work: Work) -> Ask {
    Ask {
        work,
        max_records_per_second: None,
        priority: 0,
        allow_partial: true,
        labels: BTreeMap::new(),
    }
}

fn replay(world: &World, records: Records, mode: Mode) -> Replay {
    let ids = world.ids.iter().flatten().copied().map(name);
    Replay {
        data_types: vec![TYPE.to_owned()],
        records,
        ids: ids.collect(),
        lookup_values: Vec::new(),
        ignore_whitelist: false,
        mode,
        clean_first: false,
    }
}

fn offsets(bounds: &[(u64, u64)]) -> Records {
    let asked = bounds.iter().map(|(start, end)| PartitionOffsets {
        topic: TopicName::new("fund-data"),
        partition: Partition(3),
        start: Offset(*start),
        end: Offset(*end),
    });
    Records::Offsets(asked.collect())
}

fn times(start: i64, length: i64, by_record: bool) -> Records {
    let time = |milliseconds| Timestamp::from_millisecond(milliseconds).expect("a time");
    Records::Times(Times {
        start: time(start),
        end: Some(time(start + length)),
        by_record,
        max_disorder_ms: None,
    })
}

prop_compose! {
    fn world()(
        records in prop::collection::vec((any::<bool>(), 0_u8..5, 0_i64..60), 30..80),
        bounds in (0_u64..20, 0_u64..90, 0_u64..25),
        segments in prop::collection::vec((1_u64..20, 0_u64..3), 1..8),
        cuts in prop::collection::vec((0_u64..80, 0_u64..6), 0..3),
        whitelists in prop::collection::vec(prop::collection::btree_set(0_u8..5, 0..4), 3),
        ids in prop::option::of(prop::collection::btree_set(0_u8..5, 1..4)),
        deferred in prop::collection::vec((0_u64..80, 0_u64..9), 0..2),
    ) -> World {
        let count = records.len() as u64;
        let mut end = 0;
        let segments: Vec<(u64, u64)> = segments.into_iter().map(|(length, version)| { end += length; (end, version) }).collect();
        World {
            records: records.into_iter().map(|(of_type, id, time)| Record { of_type, id, time }).collect(),
            log_start: bounds.0,
            committed: bounds.1.min(count).min(end),
            segments,
            holes: cuts.into_iter().map(|(from, length)| interval(from, from + length)).collect(),
            indexed_from: bounds.2,
            whitelists,
            ids,
            deferred: deferred.into_iter().map(|(from, length)| interval(from, from + length)).collect(),
        }
    }
}

fn check(world: &World, draft: &Draft, expected: &BTreeMap<u64, usize>) -> Result<(), TestCaseError> {
    prop_assert_eq!(&world.let_through(draft), expected);
    let mut slices: Vec<Interval> = draft.slices.iter().map(Slice::interval).collect();
    slices.sort_unstable();
    prop_assert!(
        slices.windows(2).all(|pair| pair[0].end <= pair[1].start),
        "{:?}",
        slices
    );
    prop_assert!(
        slices
            .iter()
            .all(|slice| slice.start < slice.end && slice.end.0 - slice.start.0 <= LIMITS.max_slice)
    );
    let log = world.log_start..=world.records.len() as u64;
    prop_assert!(
        slices
            .iter()
            .all(|slice| log.contains(&slice.start.0) && log.contains(&slice.end.0))
    );
    let lets_some = |filter: u32| !draft.filters[filter as usize].is_empty();
    let all_let_some = draft.slices.iter().all(|slice| slice.filter.is_none_or(lets_some));
    prop_assert!(all_let_some);
    Ok(())
}

proptest! {
    #[test]
    fn offsets_are_replayed_exactly_and_what_was_deleted_is_missing_exactly(
        world in world(), asked in prop::collection::vec((0_u64..90, 0_u64..30), 1..4),
    ) {
        let asked: Vec<(u64, u64)> = asked.into_iter().map(|(start, length)| (start, start + length)).collect();
        let draft = world.plan(replay(&world, offsets(&asked), Mode::Live)).expect("a plan");
        let is_asked = |offset: u64| asked.iter().any(|(start, end)| (*start..*end).contains(&offset));
        let passes = |id| if world.ids.is_some() { world.asked(id) } else { world.allows(world.now(), id) };
        check(&world, &draft, &world.expected(|offset, record| is_asked(offset) && passes(record.id)))?;
        let missing: Vec<Interval> = draft.missing.iter().map(|missing| Interval::new(missing.start, missing.end)).collect();
        for offset in 0..100 {
            let is_missing = missing.iter().any(|missing| contains(*missing, offset));
            prop_assert_eq!(is_missing, is_asked(offset) && offset < world.log_start);
        }
    }

    #[test]
    fn a_window_by_record_time_is_replayed_exactly_whatever_the_ledger_knows(
        world in world(), start in 0_i64..60, length in 1_i64..30,
    ) {
        let draft = world.plan(replay(&world, times(start, length, true), Mode::Isolated)).expect("a plan");
        let passes = |id| if world.ids.is_some() { world.asked(id) } else { world.allows(world.now(), id) };
        let expected = world.expected(|_, record| (start..start + length).contains(&record.time) && passes(record.id));
        check(&world, &draft, &expected)?;
    }

    #[test]
    fn a_window_by_processing_time_takes_whole_ranges(world in world(), start in 0_i64..60, length in 1_i64..30) {
        let draft = world.plan(replay(&world, times(start, length, false), Mode::Live)).expect("a plan");
        let passes = |id| if world.ids.is_some() { world.asked(id) } else { world.allows(world.now(), id) };
        let expected = world.expected(|offset, record| {
            let segment = world.known(offset).map(|(segment, _)| segment as i64 * 10);
            segment.is_some_and(|from| from < start + length && start <= from + 9) && passes(record.id)
        });
        check(&world, &draft, &expected)?;
    }

    #[test]
    fn a_catch_up_replays_exactly_who_passes_now_and_did_not_then(world in world(), since in 0_u64..3) {
        let since = Version(since);
        let draft = world.plan(replay(&world, Records::CatchUp { since }, Mode::Live)).expect("a plan");
        let now = &world.whitelists[world.now()];
        let expected = world.expected(|offset, record| {
            let Some((_, version)) = world.known(offset) else { return false };
            let then = &world.whitelists[version.0 as usize];
            // Where everybody passes now, those who did then cannot be left out.
            let passed_then = world.allows(version.0 as usize, record.id) && !(now.is_empty() && world.ids.is_none() && !then.is_empty());
            version >= since && world.asked(record.id) && world.allows(world.now(), record.id) && !passed_then
        });
        check(&world, &draft, &expected)?;
    }

    #[test]
    fn a_comparison_takes_what_passed_when_it_was_judged_up_to_where_live_traffic_is(
        world in world(), asked in (0_u64..90, 0_u64..90), repairs in any::<bool>(), by_time in any::<bool>(),
    ) {
        let mode = if repairs { Mode::Repair } else { Mode::Verify };
        let (start, end) = (asked.0.min(asked.1), asked.0.max(asked.1));
        let (from, to) = (i64::try_from(start / 2).unwrap_or(0), i64::try_from(end / 2 + 1).unwrap_or(0));
        let records = if by_time { times(from, to - from, true) } else { offsets(&[(start, end)]) };
        let draft = world.plan(replay(&world, records, mode)).expect("a plan");
        let expected = world.expected(|offset, record| {
            let is_asked = if by_time { (from..to).contains(&record.time) } else { (start..end).contains(&offset) };
            let judged = world.known(offset);
            let is_owed = world.deferred.iter().any(|deferred| contains(*deferred, offset));
            is_asked && !is_owed && world.asked(record.id) && judged.is_some_and(|(_, version)| world.allows(version.0 as usize, record.id))
        });
        check(&world, &draft, &expected)?;
    }

    #[test]
    fn overwriting_reads_a_partition_in_one_piece_or_not_at_all(
        world in world(), start in 0_i64..60, length in 1_i64..30, by_record in any::<bool>(),
    ) {
        match world.plan(replay(&world, times(start, length, by_record), Mode::Overwrite)) {
            Ok(draft) => {
                prop_assert!(draft.slices.len() <= 1);
                let same = world.plan(replay(&world, times(start, length, by_record), Mode::Live)).expect("a plan");
                prop_assert_eq!(world.let_through(&draft), world.let_through(&same));
            }
            Err(refused) => {
                let is_not_connected = matches!(refused, Refusal::NotConnected { .. });
                prop_assert!(!by_record && is_not_connected);
            }
        }
    }
}

fn one_world() -> World {
    World {
        records: (0..60)
            .map(|place| Record {
                of_type: place % 2 == 0,
                id: (place % 5) as u8,
                time: i64::from(place),
            })
            .collect(),
        log_start: 10,
        committed: 50,
        segments: vec![(20, 0), (40, 1), (50, 2)],
        holes: vec![interval(44, 46)],
        indexed_from: 0,
        whitelists: vec![BTreeSet::from([1]), BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 3])],
        ids: None,
        deferred: Vec::new(),
    }
}

#[test]
fn a_plan_tells_sources_estimates_caps_and_what_the_ledger_does_not_cover() {
    let world = one_world();
    let draft = world
        .plan(replay(&world, times(15, 20, true), Mode::Live))
        .expect("a plan");
    let partition = &draft.partitions[0];
    // The hole may hold records of the window, and so may what was not read yet.
    assert_eq!(partition.source, super::wanted::Source::Broker);
    assert_eq!(partition.uncovered, 2 + 10);
    assert!((22..=26).contains(&partition.records), "{partition:?}");
    assert_eq!(draft.positions(), partition.positions);
    assert_eq!(
        draft.duration_at(Some(10)).map(|time| time.as_secs()),
        Some(partition.positions.div_ceil(10))
    );

    let beyond = world
        .plan(replay(&world, offsets(&[(40, 1_000)]), Mode::Live))
        .expect("a plan");
    assert_eq!(beyond.slices.last().map(|slice| slice.end), Some(Offset(60)));
    assert!(
        beyond.notes[0].contains("is read up to 60, not to 1000"),
        "{:?}",
        beyond.notes
    );
    let compared = world
        .plan(replay(&world, offsets(&[(40, 1_000)]), Mode::Verify))
        .expect("a plan");
    assert!(compared.slices.iter().all(|slice| slice.end <= Offset(50)));
    assert!(
        compared.notes.iter().any(|note| note.contains("left out")),
        "{:?}",
        compared.notes
    );
}

#[test]
fn deleted_offsets_are_refused_with_their_exact_interval_unless_a_part_will_do() {
    let world = one_world();
    let strict = Ask {
        allow_partial: false,
        ..ask(Work::Replay(replay(&world, offsets(&[(4, 30)]), Mode::Live)))
    };
    let refused = plan(&strict, &world.facts(strict.replay()), &LIMITS);
    let Err(Refusal::Expired(missing)) = refused else {
        panic!("{refused:?}");
    };
    let bounds: Vec<_> = missing.iter().map(|missing| (missing.start.0, missing.end.0)).collect();
    assert_eq!(bounds, [(4, 10)]);
    // By record time, what the ledger knows of what was deleted; where it knows nothing, everything that may be of the
    // window.
    let missing = |world: &World, start| -> Vec<(u64, u64)> {
        let draft = world
            .plan(replay(world, times(start, 30, true), Mode::Live))
            .expect("a plan");
        draft
            .missing
            .iter()
            .map(|missing| (missing.start.0, missing.end.0))
            .collect()
    };
    assert_eq!(missing(&world, 4), [(0, 10)]);
    let forgetful = World {
        indexed_from: 10,
        ..one_world()
    };
    assert_eq!(missing(&forgetful, 4), [(0, 10)]);
    assert_eq!(missing(&forgetful, 15), []);
    let empty = World {
        log_start: 60,
        indexed_from: 60,
        ..one_world()
    };
    assert_eq!(missing(&empty, 4), []);
    let noted = empty
        .plan(replay(&empty, times(4, 30, true), Mode::Live))
        .expect("a plan");
    assert!(noted.notes[0].contains("taken to be older"), "{:?}", noted.notes);
}

#[test]
fn more_than_a_job_may_have_is_refused() {
    let world = one_world();
    let all = ask(Work::Replay(replay(&world, offsets(&[(10, 60)]), Mode::Live)));
    let facts = world.facts(all.replay());
    let few_tasks = Limits { max_tasks: 3, ..LIMITS };
    assert!(matches!(
        plan(&all, &facts, &few_tasks),
        Err(Refusal::TooManyTasks { tasks: 8, most: 3 })
    ));
    let few_ids = Limits {
        max_filter_ids: 2,
        ..LIMITS
    };
    assert!(matches!(
        plan(&all, &facts, &few_ids),
        Err(Refusal::TooManyIds { ids: 3, most: 2 })
    ));
}

#[test]
fn a_rebuild_reads_everything_that_live_traffic_passed_in_one_piece() {
    let world = one_world();
    let rebuild = Rebuild {
        topic: TopicName::new("fund-data"),
        partitions: Vec::new(),
    };
    let draft = plan(&ask(Work::Rebuild(rebuild)), &world.facts(None), &LIMITS).expect("a plan");
    assert_eq!(draft.slices.len(), 1);
    assert_eq!((draft.slices[0].start.0, draft.slices[0].end.0), (10, 50));
    assert_eq!((draft.slices[0].data_type.as_str(), draft.slices[0].filter), ("", None));
    assert!(union(draft.slices.iter().map(Slice::interval)) == [interval(10, 50)]);
}
