//! What the tasks of plans let through is what was asked for, record by record.

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reprise_proto::v1::*;
use reprise_shared::whitelist::Version;

use crate::listed::Record;
use crate::world::{TYPES, World, offsets, replay, spec, times, world};

#[tokio::test(flavor = "multi_thread")]
async fn plans_let_through_exactly_the_records_that_were_asked_for() -> Result<()> {
    let mut world = world("plan-exact").await?;
    let asked = [(0, 100, 900), (2, 0, 50_000), (2, 3, 40), (3, 700, 701)];
    let is_asked = move |record: &Record| {
        let within = |(partition, start, end): &(u32, u64, u64)| {
            *partition == record.partition && (*start..*end).contains(&record.offset)
        };
        asked.iter().any(within)
    };
    let by_offsets = spec(replay(&["fund_risk", "fund_basic"], offsets(&asked)));
    let plan = world
        .check("offsets", by_offsets, move |world, record| {
            is_asked(record) && world.now.contains(&record.id)
        })
        .await?;
    ensure!(
        plan.uncovered_positions == 0 && plan.notes.iter().any(|note| note.contains("not to 50000")),
        "{plan:?}"
    );
    let everything = spec(ReplaySpec {
        ignore_whitelist: true,
        ..replay(&["fund_valuation"], offsets(&asked))
    });
    world
        .check("offsets without the whitelist", everything, move |_, record| {
            is_asked(record)
        })
        .await?;

    // Codes and names, shown with their ids; ids replace the whitelist.
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT performance_id, fund_code, fund_name FROM t_fund_basic_info ORDER BY performance_id DESC LIMIT 2",
    )
    .fetch_all(&world.fleet.pool)
    .await?;
    let values = vec![rows[0].1.clone(), rows[1].2.clone(), "no such fund".to_owned()];
    let by_values = spec(ReplaySpec {
        lookup_values: vec![LookupValues {
            lookup: "fund_code".to_owned(),
            values,
        }],
        ids: vec!["0P-unknown".to_owned()],
        ..replay(
            &TYPES,
            offsets(&[(0, 0, 9_000), (1, 0, 9_000), (2, 0, 9_000), (3, 0, 9_000)]),
        )
    });
    let wanted: Vec<String> = rows.iter().map(|row| row.0.clone()).collect();
    let plan = world
        .check("fund codes and names", by_values, move |_, record| {
            wanted.contains(&record.id)
        })
        .await?;
    let resolved: Vec<usize> = plan.resolved_values.iter().map(|value| value.ids.len()).collect();
    ensure!(
        plan.resolved_values.len() == 3 && resolved.iter().sum::<usize>() >= 2 && resolved.contains(&0),
        "{plan:?}"
    );

    windows(&mut world).await?;
    catch_ups(&mut world).await?;
    comparisons(&mut world).await?;
    world.end().await
}

/// Random windows by record time, each with an estimate.
async fn windows(world: &mut World) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let all = || world.records.iter().map(|record| record.time);
    let (first, last) = (all().min().context("no record")?, all().max().context("no record")?);
    for number in 0..12 {
        let start = random.random_range(first - 10_000..last);
        let end = start + random.random_range(1_000..400_000);
        let window = spec(ReplaySpec {
            ignore_whitelist: true,
            ..replay(&TYPES, times(start, end, TimeBasis::Record))
        });
        let within = move |_: &World, record: &Record| (start..end).contains(&record.time);
        let plan = world.check(&format!("window {number}"), window, within).await?;
        ensure!(plan.uncovered_positions == 0, "{plan:?}");
        let exact = world.records.iter().filter(|record| within(world, record)).count() as u64;
        // Small windows lie within one range of the ledger or two.
        if exact > 1_000 {
            let error = plan.estimated_records.abs_diff(exact);
            ensure!(error * 10 <= exact, "estimated {} of {exact}", plan.estimated_records);
        }
    }
    let future = spec(replay(&TYPES, times(last + 1, last + 60_000, TimeBasis::Record)));
    let plan = world.check("a window in the future", future, |_, _| false).await?;
    ensure!(plan.task_count == 0, "{plan:?}");
    // Everything was processed between now and a day ago.
    let processed = spec(replay(
        &["fund_risk"],
        times(1_000, 32_503_680_000_000, TimeBasis::Processed),
    ));
    world
        .check("everything by processing time", processed, |world, record| {
            world.now.contains(&record.id)
        })
        .await?;
    Ok(())
}

async fn catch_ups(world: &mut World) -> Result<()> {
    let versions: Vec<Version> = world.phases.iter().map(|(version, ..)| *version).collect();
    for since in versions {
        let catch_up = replay_spec::Records::CatchUp(ReplayCatchUp { since_version: since.0 });
        let late = move |world: &World, record: &Record| {
            let judged = world
                .judged(record)
                .is_some_and(|(version, _, list)| *version >= since && !list.contains(&record.id));
            judged && world.now.contains(&record.id)
        };
        world
            .check(
                &format!("catch-up since {}", since.0),
                spec(replay(&TYPES, catch_up)),
                late,
            )
            .await?;
    }
    Ok(())
}

async fn comparisons(world: &mut World) -> Result<()> {
    let everything = offsets(&[(0, 0, 9_000), (1, 0, 9_000), (2, 0, 9_000), (3, 0, 9_000)]);
    for mode in [ReplayMode::Verify, ReplayMode::Repair] {
        let compare = spec(ReplaySpec {
            mode: mode.into(),
            ..replay(&TYPES, everything.clone())
        });
        let was_let_through = |world: &World, record: &Record| {
            world
                .judged(record)
                .is_some_and(|(_, _, list)| list.contains(&record.id))
        };
        world.check(mode.as_str_name(), compare, was_let_through).await?;
    }
    Ok(())
}
