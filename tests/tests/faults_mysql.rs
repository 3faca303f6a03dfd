//! MySQL stopped and frozen under load.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_tests::env::Servers;
use reprise_tests::fleet::{Fleet, Load, Options, PATIENCE, endpoints_with, feed_of_all_kinds, peak_mib, resident_mib};
use reprise_tests::servers::Server as _;

const PER_SECOND: u32 = 1_500;
const BACKLOG: u64 = 200_000;

/// Lets the load go on for so long and returns the most memory that the worker had. The worker must live.
async fn outage(fleet: &mut Fleet, load: &Load, length: Duration) -> Result<u64> {
    let slices = length.as_secs();
    let mut most = 0;
    for _ in 0..slices {
        load.more(u64::from(PER_SECOND), PATIENCE).await?;
        let pid = fleet.workers[0].pid().with_context(|| fleet.log_of(0))?;
        most = most.max(resident_mib(pid)?);
    }
    Ok(most)
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_mysql_stopped_and_then_frozen_is_waited_out() -> Result<()> {
    let mut server = Servers::own().mariadb().await?;
    let endpoints = endpoints_with(|all| server.endpoint().clone_into(&mut all.mysql)).await?;
    let options = Options {
        endpoints: Some(endpoints),
        ..Options::default()
    };
    let mut fleet = Fleet::new("faults-mysql", options).await?;
    let config = feed_of_all_kinds(None, 21);
    fleet.seed(&config).await?;
    // The measure is the worker's memory at full input: a backlog drained as fast as it can.
    fleet.publish(feed_of_all_kinds(Some(BACKLOG), 22)).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let before = peak_mib(fleet.workers[0].pid().with_context(|| fleet.log_of(0))?)?;
    let load = fleet.load(config.clone(), PER_SECOND);
    load.more(u64::from(PER_SECOND), PATIENCE).await?;

    server.stop().await?;
    let stopped = outage(&mut fleet, &load, Duration::from_secs(30)).await?;
    server.start_again().await?;
    fleet.catches_up_to_now().await?;

    server.pause()?;
    let frozen = outage(&mut fleet, &load, Duration::from_secs(15)).await?;
    server.resume()?;
    fleet.catches_up_to_now().await?;

    let report = load.finish().await?;
    fleet.check_all(&config, Vec::new()).await?;
    fleet.check_coverage_is_whole().await?;
    fleet.check_accounting(0).await?;
    fleet.check_kept_partitions(0)?;
    eprintln!(
        "{} records; resident memory {before} MiB at full input, at most {stopped} MiB stopped, {frozen} MiB frozen",
        report.counts.delivered
    );
    ensure!(
        stopped.max(frozen) <= before + 64,
        "memory grew from {before} to {stopped} and {frozen} MiB"
    );
    fleet.stop().await
}
