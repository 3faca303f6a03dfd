//! Redis stopped, frozen and emptied under load.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_shared::ledger::Interval;
use reprise_shared::position::Offset;
use reprise_shared::whitelist::Version;
use reprise_tests::env::Servers;
use reprise_tests::feed::{FeedConfig, Fund};
use reprise_tests::fleet::{Fleet, Load, Options, PATIENCE, endpoints_with, feed_of_all_kinds};
use reprise_tests::servers::Server as _;
use reprise_tests::wait::wait_for;

const PER_SECOND: u32 = 1_500;

/// With Redis away for so long: rows go on being written, and nothing is committed.
async fn outage(fleet: &Fleet, load: &Load, config: &FeedConfig, length: Duration) -> Result<()> {
    // A commit that the ledger had allowed before may still be on its way.
    load.more(u64::from(2 * PER_SECOND), PATIENCE).await?;
    let first = fleet.positions().await?;
    load.more(u64::from(PER_SECOND) * (length.as_secs() - 2), PATIENCE)
        .await?;
    let last = fleet.positions().await?;
    for ((before, _), (after, end)) in first.iter().zip(&last) {
        ensure!(before == after, "committed without a ledger: {first:?} to {last:?}");
        ensure!(*after < Some(*end), "there was no load: {last:?}");
    }
    let ends: Vec<i64> = last.iter().map(|(_, end)| *end).collect();
    let waited = wait_for("all records of the outage in MySQL", PATIENCE, async || {
        fleet.check_written_below(&ends, config).await
    })
    .await;
    waited.with_context(|| fleet.log_of(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_i3_redis_stopped_and_then_frozen_delays_commits_and_nothing_else() -> Result<()> {
    let mut server = Servers::own().redis().await?;
    let endpoints = endpoints_with(|all| server.endpoint().clone_into(&mut all.redis)).await?;
    let options = Options {
        endpoints: Some(endpoints),
        ..Options::default()
    };
    let mut fleet = Fleet::new("faults-redis", options).await?;
    let config = feed_of_all_kinds(None, 31);
    fleet.seed(&config).await?;
    let load = fleet.load(config.clone(), PER_SECOND);
    fleet.start_workers(1).await?;
    load.more(3_000, PATIENCE).await?;

    server.pause()?;
    outage(&fleet, &load, &config, Duration::from_secs(10)).await?;
    server.resume()?;
    fleet.catches_up_to_now().await?;

    // It keeps nothing on disk, so this loses all of the ledger, which is young enough to be sent again.
    server.stop().await?;
    outage(&fleet, &load, &config, Duration::from_secs(30)).await?;
    server.start_again().await?;
    fleet.catches_up_to_now().await?;

    let report = load.finish().await?;
    fleet.check_trial(&config).await?;
    fleet.check_kept_partitions(0)?;
    eprintln!(
        "{} records, equal to the oracle, coverage whole",
        report.counts.delivered
    );
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_an_emptied_redis_lets_nothing_through_and_leaves_a_provable_hole() -> Result<()> {
    let server = Servers::own().redis().await?;
    let endpoints = endpoints_with(|all| server.endpoint().clone_into(&mut all.redis)).await?;
    let options = Options {
        endpoints: Some(endpoints),
        ..Options::default()
    };
    let mut fleet = Fleet::new("faults-flush", options).await?;
    let config = feed_of_all_kinds(Some(8_000), 41);
    let allowed: Vec<String> = (1..=50).map(|fund| Fund(fund).performance_id()).collect();
    fleet.seed(&config).await?;
    fleet.set_whitelist(&allowed).await?;
    fleet.start_workers(1).await?;

    // What an earlier run sealed is nobody's to send again.
    fleet.publish(config.clone()).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.stop().await?;
    let sealed = fleet.positions().await?;
    fleet.workers[0].start()?;
    fleet.workers[0]
        .ready(PATIENCE)
        .await
        .with_context(|| fleet.log_of(0))?;
    fleet.publish(config.clone()).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.check_coverage_is_whole().await?;

    fleet.flush_redis().await?;
    let second = fleet.start_worker()?;
    fleet.publish(config.clone()).await?;
    fleet.caught_up(PATIENCE).await?;
    let ends = fleet.positions().await?;
    let healed: Vec<Vec<Interval>> = sealed
        .iter()
        .zip(&ends)
        .map(|((from, _), (_, end))| {
            let position = |at: i64| Offset(u64::try_from(at).unwrap_or(0));
            vec![Interval::new(position(from.unwrap_or(0)), position(*end))]
        })
        .collect();
    let covered = fleet.coverage().await?;
    ensure!(
        covered == healed,
        "coverage is {covered:?}; only what was sent again may be there: {healed:?}"
    );
    let answer = wait_for("an answer of /readyz", PATIENCE, async || fleet.not_ready(second).await).await?;
    let unready = answer.context("ready without a whitelist")?;
    ensure!(unready.contains("whitelist"), "ready for another reason: {unready}");
    ensure!(
        !fleet.whole_log(second).contains("partitions assigned"),
        "a worker without a whitelist joined the group\n{}",
        fleet.log_of(second)
    );

    // The set comes back, newer than all before, as the control plane would write it.
    fleet.put_whitelist(&allowed, Version(100)).await?;
    fleet.workers[second]
        .ready(PATIENCE)
        .await
        .with_context(|| fleet.log_of(second))?;
    fleet.publish(config.clone()).await?;
    let folded = fleet.check_all(&config, allowed).await?;
    let filtered: u64 = folded.counts.values().map(|counts| counts.records.filtered).sum();
    eprintln!("32000 records, {filtered} of them filtered, equal to the oracle; hole and healed part {covered:?}");
    for worker in 0..2 {
        fleet.check_accounting(worker).await?;
    }
    fleet.stop().await
}
