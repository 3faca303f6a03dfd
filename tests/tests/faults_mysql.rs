//! MySQL stopped and frozen under load.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_tests::env::Servers;
use reprise_tests::fleet::{Fleet, Load, Options, PATIENCE, endpoints_with, feed_of_all_kinds, sum};
use reprise_tests::kernel::memory;
use reprise_tests::servers::Server as _;
use reprise_tests::wait::wait_for;

const PER_SECOND: u32 = 1_500;
const BACKLOG: u64 = 200_000;

/// Lets the load go on by what it sends in so long, and returns the most memory that the worker had, in MiB, and what it held
/// then. The worker must live.
async fn outage(fleet: &mut Fleet, load: &Load, length: Duration) -> Result<(f64, String)> {
    let mut most = (0.0, String::new());
    for slice in 1..=length.as_secs() {
        load.more(u64::from(PER_SECOND), PATIENCE).await?;
        let pid = fleet.workers[0].pid().with_context(|| fleet.log_of(0))?;
        let memory = memory(pid)?;
        if memory.resident > most.0 {
            let metrics = fleet.metrics(0).await?;
            let held = |what| sum(&metrics, what, &[]);
            let (rows, bytes) = (held("reprise_in_flight_rows"), held("reprise_in_flight_bytes"));
            let held = format!(
                "slice {slice}: {:.0} MiB not of files, {rows} rows, {bytes} bytes of chunks",
                memory.anonymous
            );
            most = (memory.resident, held);
        }
    }
    Ok(most)
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_mysql_stopped_and_then_frozen_is_waited_out() -> Result<()> {
    let mut server = Servers::own().mariadb().await?;
    let endpoints = endpoints_with(|all| server.endpoint().clone_into(&mut all.mysql)).await?;
    let options = Options {
        endpoints: Some(endpoints),
        settings: vec![
            ("ingest.stall_after".to_owned(), "10s".to_owned()),
            // So few that they are in flight at full input already, however fast MySQL is: what an outage adds is compared
            // with that. It brings ten times as many records.
            ("ingest.max_rows_in_flight".to_owned(), "4000".to_owned()),
        ],
        ..Options::default()
    };
    let mut fleet = Fleet::new("faults-mysql", options).await?;
    let config = feed_of_all_kinds(None, 21);
    fleet.seed(&config).await?;
    // The measure is the worker's memory at full input: a backlog drained as fast as it can.
    fleet.publish(feed_of_all_kinds(Some(BACKLOG), 22)).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let before = memory(fleet.workers[0].pid().with_context(|| fleet.log_of(0))?)?.peak;
    let load = fleet.load(config.clone(), PER_SECOND);
    load.more(u64::from(PER_SECOND), PATIENCE).await?;

    server.stop().await?;
    let stopped = outage(&mut fleet, &load, Duration::from_secs(30)).await?;
    // A load that was behind sends those records in less time than `stall_after`.
    wait_for("a stall", PATIENCE, async || {
        let stalls = sum(&fleet.metrics(0).await?, "reprise_partition_stalls_total", &[]);
        ensure!(stalls > 0.0, "no partition that stands still was counted");
        let unready = fleet.not_ready(0).await?.context("ready although nothing moves")?;
        ensure!(unready.contains("stands still"), "{unready}");
        Ok(())
    })
    .await?;
    server.start_again().await?;
    fleet.catches_up_to_now().await?;
    wait_for("readiness after the outage", PATIENCE, async || {
        let unready = fleet.not_ready(0).await?;
        ensure!(unready.is_none(), "{unready:?}");
        Ok(())
    })
    .await?;

    server.pause()?;
    let frozen = outage(&mut fleet, &load, Duration::from_secs(15)).await?;
    server.resume()?;
    fleet.catches_up_to_now().await?;

    let report = load.finish().await?;
    fleet.check_trial(&config).await?;
    fleet.check_kept_partitions(0)?;
    eprintln!(
        "{} records; resident memory {before} MiB at full input, at most {stopped:?} stopped, {frozen:?} frozen",
        report.counts.delivered
    );
    ensure!(
        stopped.0.max(frozen.0) <= before + 64.0,
        "memory grew from {before} MiB to {stopped:?} and {frozen:?}"
    );
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_another_server_behind_the_same_address_raises_an_alarm() -> Result<()> {
    let mut fleet = Fleet::new("faults-other-server", Options::default()).await?;
    fleet.start_workers(2).await?;
    let identity = "SELECT identity FROM database_server";
    let known = wait_for("the server on record", PATIENCE, async || {
        sqlx::query_scalar::<_, String>(identity).fetch_one(&fleet.pool).await
    })
    .await?;
    // What a replica that takes over finds in its copy of the data: the identity of the server before it.
    sqlx::query("UPDATE database_server SET identity = 'the former server'")
        .execute(&fleet.pool)
        .await?;
    wait_for("the alarm", PATIENCE, async || {
        let mut alarms = 0.0;
        for worker in 0..2 {
            alarms += sum(&fleet.metrics(worker).await?, "reprise_database_changed_total", &[]);
        }
        ensure!(alarms == 1.0, "{alarms} alarms");
        Ok(())
    })
    .await?;
    let record: (String, String, bool) =
        sqlx::query_as("SELECT identity, previous, previous_seen_at IS NOT NULL FROM database_server")
            .fetch_one(&fleet.pool)
            .await?;
    ensure!(record == (known, "the former server".to_owned(), true), "{record:?}");
    fleet.stop().await
}
