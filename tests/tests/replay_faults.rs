//! Replays under faults: workers killed and frozen, servers restarted, live traffic on the same keys.

use anyhow::{Result, ensure};
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reprise_shared::jobs::{JobId, Mode};
use reprise_tests::env::{Servers, rounds};
use reprise_tests::feed::FeedConfig;
use reprise_tests::fleet::{Asked, Fleet, Options, PATIENCE, endpoints_with, feed_of_all_kinds, sum_of};
use reprise_tests::servers::Server as _;
use reprise_tests::wait::wait_for;

#[path = "support/exact.rs"]
mod exact;
use exact::{FUNDS, check, records};

fn options() -> Options {
    let settings = [
        ("replay.live_first.floor_rate", "4000000000"),
        // A slow machine is not what this is about.
        ("replay.live_first.latency_cut", "20s"),
        ("replay.live_first.latency_hold", "60s"),
        ("replay.poll", "100ms"),
        ("replay.lease", "2s"),
        ("replay.renew", "500ms"),
        ("replay.checkpoint", "200ms"),
        ("replay.max_attempts", "100"),
    ];
    Options {
        settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Options::default()
    }
}

/// Kills a replay worker so many times while a job goes on.
async fn kill(fleet: &mut Fleet, worker: usize, job: JobId, rounds: u32, random: &mut ChaCha8Rng) -> Result<()> {
    for round in 0..rounds {
        fleet
            .job_reads(job, 1 + u64::from(random.next_u32() % 900), PATIENCE)
            .await?;
        fleet.workers[worker].kill()?;
        let at = fleet.progress(job).await?;
        eprintln!(
            "kill {round}: {} read, {} rows written",
            at.read.read,
            sum_of(&at.written)
        );
        fleet.workers[worker].start()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_worker_killed_at_random_moments_leaves_exact_counts() -> Result<()> {
    let rounds = rounds(3)?;
    let mut fleet = Fleet::new("replay-kill", options()).await?;
    fleet.seed(&FeedConfig::only_funds(FUNDS)).await?;
    let count = 3_000 + 1_500 * rounds;
    let asked = Asked {
        per_second: Some(3_000),
        slice: 2_000,
        ..Asked::default()
    };
    let worker = fleet.start_replay_workers(1).await?;
    let mut random = ChaCha8Rng::seed_from_u64(41);

    fleet.publish_records(records(count, 1)).await?;
    let first = fleet.slices("fund_risk", asked.slice).await?;
    let ends: Vec<u64> = fleet.bounds().await?.iter().map(|(_, end)| *end).collect();
    let job = fleet.replay_slices(first, &asked).await?;
    kill(&mut fleet, worker, job, rounds, &mut random).await?;
    check(&fleet, job, (u64::from(count), 0)).await?;

    // A newer version of every row.
    fleet.publish_records(records(count, 2)).await?;
    let mut slices = fleet.slices("fund_risk", u64::MAX / 2).await?;
    for slice in &mut slices {
        slice.start.0 = ends[usize::from(slice.topic_partition.partition.0)];
    }
    let job = fleet.replay_slices(slices, &asked).await?;
    kill(&mut fleet, worker, job, rounds, &mut random).await?;
    check(&fleet, job, (0, u64::from(count))).await?;
    eprintln!(
        "{} kills, {count} rows inserted and {count} updated, exactly",
        2 * rounds
    );
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_replay_beside_live_traffic_on_the_same_keys_ends_in_the_tables_of_the_oracle() -> Result<()> {
    let config = feed_of_all_kinds(Some(6_000), 43);
    let mut fleet = Fleet::new("replay-live", options()).await?;
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let worker = fleet.start_replay_workers(1).await?;
    let load = fleet.load(feed_of_all_kinds(None, 44), 300);
    let before = fleet.positions().await?;
    let mut jobs = Vec::new();
    for (data_type, mode) in [
        ("fund_valuation", Mode::Live),
        ("fund_risk", Mode::Repair),
        ("fund_basic", Mode::Live),
        ("fund_valuation", Mode::Verify),
    ] {
        let asked = Asked {
            mode,
            slice: 1_000,
            per_second: Some(4_000),
            ..Asked::default()
        };
        jobs.push(fleet.replay(data_type, &asked).await?);
    }
    let mut random = ChaCha8Rng::seed_from_u64(45);
    kill(&mut fleet, worker, jobs[0], 1, &mut random).await?;
    for job in jobs {
        let written = fleet.job_succeeds(job, PATIENCE).await?.written;
        ensure!(written.inserted == 0, "everything was there already: {written:?}");
        ensure!(
            written.missing + written.different + written.older == 0,
            "nothing was damaged: {written:?}"
        );
    }
    let after = fleet.positions().await?;
    ensure!(
        before.iter().zip(&after).all(|(before, after)| before.0 <= after.0),
        "committed positions went back from {before:?} to {after:?}"
    );
    load.finish().await?;
    fleet.check_all(&config, Vec::new()).await?;
    ensure!(
        fleet.groups().await? == [fleet.isolation.group()],
        "{:?}",
        fleet.groups().await?
    );
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_mysql_and_kafka_restarted_under_a_replay_are_waited_out() -> Result<()> {
    let mut mysql = Servers::own().mariadb().await?;
    let mut kafka = Servers::own().kafka().await?;
    let endpoints = endpoints_with(|all| {
        mysql.endpoint().clone_into(&mut all.mysql);
        kafka.endpoint().clone_into(&mut all.kafka);
    })
    .await?;
    let mut options = options();
    options.endpoints = Some(endpoints);
    let mut fleet = Fleet::new("replay-servers", options).await?;
    fleet.seed(&FeedConfig::only_funds(FUNDS)).await?;
    let count = 12_000;
    fleet.publish_records(records(count, 1)).await?;
    let worker = fleet.start_replay_workers(1).await?;
    let asked = Asked {
        per_second: Some(2_000),
        ..Asked::default()
    };
    let job = fleet.replay("fund_risk", &asked).await?;
    fleet.job_reads(job, 500, PATIENCE).await?;
    mysql.kill()?;
    mysql.start_again().await?;
    wait_for("mysql", PATIENCE, async || fleet.progress(job).await.map(|_| ())).await?;
    fleet.job_reads(job, 500, PATIENCE).await?;
    kafka.restart().await?;
    check(&fleet, job, (u64::from(count), 0)).await?;
    ensure!(fleet.workers[worker].pid().is_some(), "{}", fleet.log_of(worker));
    fleet.stop().await
}
