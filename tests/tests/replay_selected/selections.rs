//! What can be asked for, each held against a rule in plain code.

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::replay_spec::Records;
use reprise_proto::v1::{LookupValues, ReplayCatchUp, ReplaySpec, ReplayTimes, TimeBasis};
use reprise_shared::ledger::Keys;
use reprise_shared::position::{Partition, TopicName, TopicPartition};
use reprise_shared::redis::Limit;
use reprise_tests::cluster::STOP_LIMIT;
use reprise_tests::feed::{Fund, moment};
use reprise_tests::jobs::{offsets_of, times_of};
use reprise_tests::stage::ids;

use crate::listed::{self, Record};
use crate::world::{DISORDER, Rule, TYPES, World};

/// A selection: what it is, what is asked for, and who is meant.
struct Selection {
    what: String,
    types: Vec<&'static str>,
    spec: ReplaySpec,
    rule: Box<Rule>,
}

fn selection(
    what: impl Into<String>,
    types: &[&'static str],
    spec: ReplaySpec,
    rule: impl Fn(&World, &Record) -> bool + Send + Sync + 'static,
) -> Selection {
    let names = types.iter().map(ToString::to_string).collect();
    Selection {
        what: what.into(),
        types: types.to_vec(),
        spec: ReplaySpec {
            data_types: names,
            ..spec
        },
        rule: Box::new(rule),
    }
}

fn records(records: Records) -> ReplaySpec {
    ReplaySpec {
        records: Some(records),
        ..ReplaySpec::default()
    }
}

fn everything() -> Records {
    offsets_of(&[
        (0, 0, 1_000_000),
        (1, 0, 1_000_000),
        (2, 0, 1_000_000),
        (3, 0, 1_000_000),
    ])
}

/// Selections by offsets, over gaps, aborted records, an empty partition, and beyond the end.
fn by_offsets() -> Vec<Selection> {
    let asked = [
        (0, 100, 300),
        (1, 0, 1_000_000),
        (2, 7, 8),
        (2, 50, 90),
        (2, 80, 120),
        (3, 0, 500),
    ];
    let is_asked = move |record: &Record| {
        let within = |(partition, start, end): &(u32, u64, u64)| {
            *partition == record.partition && (*start..*end).contains(&record.offset)
        };
        asked.iter().any(within)
    };
    vec![
        selection(
            "offsets",
            &["fund_risk", "fund_basic"],
            records(offsets_of(&asked)),
            move |world, record| is_asked(record) && world.now.contains(&record.id),
        ),
        selection(
            "offsets, whitelisted or not",
            &TYPES,
            ReplaySpec {
                ignore_whitelist: true,
                ..records(offsets_of(&asked))
            },
            move |_, record| is_asked(record),
        ),
        selection(
            "an empty partition",
            &TYPES,
            records(offsets_of(&[(3, 0, 10)])),
            |_, _| false,
        ),
        selection(
            "ids with offsets",
            &TYPES,
            ReplaySpec {
                ids: ids(10..=30),
                ..records(offsets_of(&asked))
            },
            move |_, record| is_asked(record) && ids(10..=30).contains(&record.id),
        ),
    ]
}

/// Selections by time, also together with ids and fund codes.
fn by_time(last: i64) -> Vec<Selection> {
    let at = |second: i64| moment(second).as_millisecond();
    let window = |start: i64, end: i64, basis| records(Records::Times(times_of(start, end, basis)));
    let within = |start: i64, end: i64| move |record: &Record| (start..end).contains(&record.time);
    let mut all = Vec::new();
    for (start, end) in [(at(100), at(420)), (at(430), at(431)), (at(-5_000), at(1_000_000))] {
        let rule = within(start, end);
        all.push(selection(
            format!("records of a window of {} s", (end - start) / 1_000),
            &TYPES,
            ReplaySpec {
                ignore_whitelist: true,
                ..window(start, end, TimeBasis::Record)
            },
            move |_, record| rule(record),
        ));
    }
    let rule = within(at(200), at(1_100));
    all.push(selection(
        "fund codes and ids with a window",
        &["fund_valuation", "fund_risk"],
        ReplaySpec {
            ids: ids([1, 2, 3]),
            lookup_values: vec![LookupValues {
                lookup: "fund_code".to_owned(),
                values: (60..=90).map(|fund| Fund(fund).fund_code()).collect(),
            }],
            ..window(at(200), at(1_100), TimeBasis::Record)
        },
        move |_, record| rule(record) && ids((1..=3).chain(60..=90)).contains(&record.id),
    ));
    all.push(selection(
        "a window in the future",
        &TYPES,
        window(last + 1, last + 3_600_000, TimeBasis::Record),
        |_, _| false,
    ));
    all.push(selection(
        "everything that was processed since 1970",
        &TYPES,
        window(1_000, 32_503_680_000_000, TimeBasis::Processed),
        |world, record| world.now.contains(&record.id),
    ));
    all
}

/// Catching up since each of the versions.
fn catching_up(world: &World) -> Vec<Selection> {
    let versions = world.phases.iter().map(|(version, ..)| *version);
    let late = |since_version| {
        let spec = records(Records::CatchUp(ReplayCatchUp { since_version }));
        let what = format!("catching up since {since_version}");
        selection(what, &TYPES, spec, move |world, record| {
            let judged = world.judged(record);
            let late = judged.is_some_and(|(version, list)| version >= since_version && !list.contains(&record.id));
            late && world.now.contains(&record.id)
        })
    };
    versions.map(late).collect()
}

async fn run(world: &World, selections: Vec<Selection>) -> Result<()> {
    let mut begun = Vec::new();
    for selection in selections {
        let (id, _) = world
            .begin(selection.spec.clone())
            .await
            .context(selection.what.clone())?;
        begun.push((selection, id));
    }
    for (selection, id) in begun {
        world
            .check(&selection.what, &id, &selection.types, &*selection.rule)
            .await?;
    }
    Ok(())
}

/// Redis loses what it knew of partitions 1 and 2, and nobody is there who would write it again.
async fn lose_the_ledger(world: &mut World) -> Result<()> {
    let fleet = &mut world.stage.fleet;
    fleet.workers[0].signal(nix::sys::signal::Signal::SIGTERM)?;
    let code = fleet.workers[0].wait(STOP_LIMIT).await?;
    ensure!(code == Some(0), "it ended with {code:?}\n{}", fleet.log_of(0));
    let keys = Keys::new(fleet.redis.prefix().clone());
    for number in [1, 2] {
        let partition = TopicPartition {
            topic: TopicName::new(&fleet.topic),
            partition: Partition(number),
        };
        let mut lost = redis::cmd("DEL");
        lost.arg(keys.coverage(&partition));
        for data_type in TYPES {
            lost.arg(keys.ranges(data_type, &partition));
        }
        fleet
            .redis
            .query::<i64>("lose the ledger", Limit::Ordinary, &lost)
            .await?;
    }
    Ok(())
}

/// A window that the ledger does not cover is read to the log's end, or as far as the stated disorder reaches.
async fn without_the_ledger(world: &World) -> Result<()> {
    let (start, end) = (moment(300).as_millisecond(), moment(500).as_millisecond());
    let asked = |max_disorder| {
        let times = ReplayTimes {
            max_disorder,
            ..times_of(start, end, TimeBasis::Record)
        };
        ReplaySpec {
            data_types: TYPES.map(str::to_owned).into(),
            ignore_whitelist: true,
            ..records(Records::Times(times))
        }
    };
    let rule = move |_: &World, record: &Record| (start..end).contains(&record.time);
    let disorder = prost_types::Duration {
        seconds: DISORDER,
        nanos: 0,
    };
    let (whole, all) = world.begin(asked(None)).await?;
    let (part, some) = world.begin(asked(Some(disorder))).await?;
    world
        .check("a window without the ledger", &whole, &TYPES, &rule)
        .await?;
    world
        .check("a window with a stated disorder", &part, &TYPES, &rule)
        .await?;
    ensure!(
        all.uncovered_positions > 0 && some.uncovered_positions > 0,
        "{all:?} {some:?}"
    );
    // In partition 1 the markers of transactions have times, too, and later ones than any record.
    ensure!(
        some.positions < all.positions,
        "{} positions instead of {}",
        some.positions,
        all.positions
    );
    ensure!(some.notes.iter().any(|note| note.contains("30")), "{:?}", some.notes);
    eprintln!(
        "{} positions instead of {}: {:?}",
        some.positions, all.positions, some.notes
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_selection_takes_exactly_the_records_that_it_names() -> Result<()> {
    let mut world = World::new().await?;
    let gaps = world
        .stage
        .fleet
        .bounds()
        .await?
        .iter()
        .map(|(low, high)| high - low)
        .sum::<u64>();
    ensure!(
        gaps > world.records.len() as u64 + 300,
        "{gaps} positions: too few gaps"
    );
    let last = world
        .records
        .iter()
        .map(|record| record.time)
        .max()
        .context("no record")?;
    run(&world, by_offsets()).await?;
    run(&world, by_time(last)).await?;
    run(&world, catching_up(&world)).await?;
    run(
        &world,
        vec![selection(
            "everything",
            &TYPES,
            records(everything()),
            |world, record| world.now.contains(&record.id),
        )],
    )
    .await?;
    lose_the_ledger(&mut world).await?;
    without_the_ledger(&world).await?;
    ensure!(
        listed::records(&world.stage.fleet).await?.len() == world.records.len(),
        "the topic changed under the test"
    );
    world.stage.stop().await
}
