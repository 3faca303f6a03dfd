//! Workers that are killed and frozen under load.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reprise_tests::env::rounds;
use reprise_tests::fleet::{Fleet, Load, Options, PATIENCE, feed_of_all_kinds};
use reprise_tests::wait::wait_for;

const PER_SECOND: u32 = 2_000;

fn options() -> Options {
    // The shortest membership that a broker allows, so that a dead worker's partitions are soon free.
    let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Options {
        settings: vec![
            setting("ingest.session_timeout", "6s"),
            setting("ingest.drain", "4s"),
            setting("ingest.tick", "200ms"),
        ],
        ..Options::default()
    }
}

/// Counts how often a worker began to read a partition.
fn readings(fleet: &Fleet, number: usize) -> usize {
    let log = fleet.whole_log(number);
    log.lines().filter(|line| line.contains("\"reading\"")).count()
}

async fn reads_more(fleet: &Fleet, number: usize, than: usize) -> Result<()> {
    let waited = wait_for("partitions to be read", PATIENCE, async || {
        let now = readings(fleet, number);
        if now > than {
            Ok(())
        } else {
            Err(format!("{now} readings"))
        }
    })
    .await;
    waited.with_context(|| fleet.log_of(number))
}

/// Waits until more is committed than now.
async fn commits_more(fleet: &Fleet, number: usize) -> Result<()> {
    let sum = |positions: Vec<(Option<i64>, i64)>| -> i64 { positions.iter().filter_map(|(at, _)| *at).sum() };
    let before = sum(fleet.positions().await?);
    let waited = wait_for("a commit", PATIENCE, async || {
        let now = sum(fleet.positions().await.map_err(|error| format!("{error:#}"))?);
        if now > before {
            Ok(())
        } else {
            Err(format!("{now} records are committed"))
        }
    })
    .await;
    waited.with_context(|| fleet.log_of(number))
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_i3_a_killed_worker_loses_nothing_and_never_claimed_too_much() -> Result<()> {
    let rounds = rounds(3)?;
    let mut fleet = Fleet::new("faults-kill", options()).await?;
    let config = feed_of_all_kinds(None, 11);
    fleet.seed(&config).await?;
    let load = fleet.load(config.clone(), PER_SECOND);
    fleet.start_workers(1).await?;
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut before = 0;
    for round in 0..rounds {
        reads_more(&fleet, 0, before).await?;
        if round % 3 != 2 {
            commits_more(&fleet, 0).await?;
        }
        // Up to 2.5 s into its work: amid a backlog that grew while it was away, or just after.
        load.more(u64::from(random.next_u32() % 5_000), PATIENCE).await?;
        fleet.workers[0].kill()?;
        before = readings(&fleet, 0);
        let sent = load.sent();
        let (committed, covered) = fleet.check_order_of_claims(&config).await?;
        eprintln!("kill {round}: {sent} sent, {committed} committed, {covered} covered, all of those in MySQL");
        fleet.workers[0].start()?;
    }
    fleet.workers[0]
        .ready(PATIENCE)
        .await
        .with_context(|| fleet.log_of(0))?;
    let report = load.finish().await?;
    fleet.check_all(&config, Vec::new()).await?;
    fleet.check_coverage_is_whole().await?;
    fleet.check_accounting(0).await?;
    eprintln!(
        "{rounds} kills, {} records, equal to the oracle",
        report.counts.delivered
    );
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_worker_frozen_beyond_its_session_does_no_harm_when_it_wakes() -> Result<()> {
    let mut fleet = Fleet::new("faults-freeze", options()).await?;
    let config = feed_of_all_kinds(None, 12);
    fleet.seed(&config).await?;
    let load = fleet.load(config.clone(), PER_SECOND);
    fleet.start_workers(2).await?;
    reads_more(&fleet, 1, 0).await?;
    load.more(5_000, PATIENCE).await?;

    let held: usize = readings(&fleet, 1);
    fleet.workers[0].signal(Signal::SIGSTOP)?;
    let frozen = fleet.positions().await?;
    reads_more(&fleet, 1, held).await?;
    passes(&fleet, &frozen).await?;
    let read_by_first = readings(&fleet, 0);
    fleet.workers[0].signal(Signal::SIGCONT)?;
    never_back(&fleet, &load, 20_000).await?;
    reads_more(&fleet, 0, read_by_first).await?;

    let report = load.finish().await?;
    fleet.check_all(&config, Vec::new()).await?;
    fleet.check_coverage_is_whole().await?;
    for worker in 0..2 {
        fleet.workers[worker]
            .ready(PATIENCE)
            .await
            .with_context(|| fleet.log_of(worker))?;
        fleet.check_accounting(worker).await?;
    }
    eprintln!("{} records, equal to the oracle", report.counts.delivered);
    fleet.stop().await
}

/// Waits until every partition is committed beyond the given ends: somebody has taken all of them over.
async fn passes(fleet: &Fleet, marks: &[(Option<i64>, i64)]) -> Result<()> {
    let waited = wait_for("every partition to go on", PATIENCE, async || {
        let now = fleet.positions().await.map_err(|error| format!("{error:#}"))?;
        if now.iter().zip(marks).all(|(now, mark)| now.0 > Some(mark.1)) {
            Ok(())
        } else {
            Err(format!("(committed, end) were {marks:?} and are {now:?}"))
        }
    })
    .await;
    waited.with_context(|| fleet.log_of(1))
}

/// Looks at committed positions while so many more records are sent: none may ever go back.
async fn never_back(fleet: &Fleet, load: &Load, records: u64) -> Result<()> {
    let until = load.sent() + records;
    let mut last = fleet.positions().await?;
    while load.sent() < until {
        let now = fleet.positions().await?;
        let back = last.iter().zip(&now).any(|((before, _), (after, _))| after < before);
        ensure!(!back, "committed positions went back: {last:?} to {now:?}");
        last = now;
    }
    Ok(())
}
