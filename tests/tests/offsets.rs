//! I9: whatever happens to a log or to committed offsets, a partition stops and says so; nothing is jumped over.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use reprise_tests::feed::FeedConfig;
use reprise_tests::fleet::{Fleet, Options, PATIENCE, Stop, sum};
use reprise_tests::oracle::{checksum, dump_table};
use reprise_tests::wait::wait_for;

fn feed(seed: u64, records: u64) -> FeedConfig {
    FeedConfig {
        seed,
        records: Some(records),
        funds: 200,
        ..FeedConfig::default()
    }
}

/// Makes a fleet whose one worker has read a first feed and was stopped, or still runs.
async fn with_history(name: &str, running: bool) -> Result<Fleet> {
    let mut fleet = Fleet::new(name, Options::quick()).await?;
    fleet.seed(&feed(1, 0)).await?;
    fleet.publish(feed(1, 4_000)).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    if !running {
        fleet.stop().await?;
    }
    Ok(fleet)
}

fn committed(positions: &[(Option<i64>, i64)]) -> Vec<i64> {
    positions.iter().map(|(committed, _)| committed.unwrap_or(-1)).collect()
}

/// Waits until all partitions but some are read to their end.
async fn others_go_on(fleet: &Fleet, stopped: &[usize]) -> Result<()> {
    let waited = wait_for("the other partitions at their ends", PATIENCE, async || {
        let positions = fleet.positions().await?;
        let behind = |(number, (committed, end)): (usize, &(Option<i64>, i64))| {
            !stopped.contains(&number) && committed.unwrap_or(-1) < *end
        };
        ensure!(!positions.iter().enumerate().any(behind), "{positions:?}");
        Ok(())
    })
    .await;
    waited.with_context(|| fleet.log_of(fleet.workers.len() - 1))
}

fn stop(reason: &str, from: i64, to: i64) -> Stop {
    (reason.to_owned(), Some((from as u64, to as u64)))
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_log_cut_above_the_committed_offset_stops_that_partition_alone() -> Result<()> {
    let mut fleet = with_history("offsets-cut-down", false).await?;
    let before = fleet.positions().await?;
    fleet.publish(feed(2, 4_000)).await?;
    let at = committed(&before)[1];
    fleet.delete_records(1, at + 137).await?;
    let worker = fleet.start_worker()?;
    let expected = BTreeMap::from([(1, stop("LOG_START_AHEAD", at, at + 137))]);
    fleet.stopped(worker, &expected).await?;
    others_go_on(&fleet, &[1]).await?;
    let after = committed(&fleet.positions().await?);
    ensure!(
        after[1] == at,
        "partition 1 was committed at {} instead of {at}",
        after[1]
    );
    fleet.stop().await?;
    ensure!(
        committed(&fleet.positions().await?)[1] == at,
        "committed while stopping"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_log_cut_under_a_running_worker_stops_the_partition_with_the_missing_interval() -> Result<()> {
    let mut fleet = with_history("offsets-cut-running", true).await?;
    let before = fleet.positions().await?;
    fleet.workers[0].signal(Signal::SIGSTOP)?;
    fleet.publish(feed(2, 20_000)).await?;
    let ends = fleet.positions().await?;
    // All of partition 2 goes, so that nothing which was fetched ahead bridges the gap.
    let (from, to) = (committed(&before)[2], ends[2].1);
    fleet.delete_records(2, to).await?;
    fleet.publish(feed(3, 4_000)).await?;
    fleet.workers[0].signal(Signal::SIGCONT)?;
    wait_for("a stop on record", PATIENCE, async || {
        let stops = fleet.stops().await?;
        ensure!(stops.len() == 1, "{stops:?}");
        Ok(())
    })
    .await
    .with_context(|| fleet.log_of(0))?;
    // A fetch may have been answered just before the cut: then the interval begins after what it delivered.
    let (reason, missing) = fleet.stops().await?.remove(&2).context("partition 2")?;
    let (begins, ends_at) = missing.context("no missing interval")?;
    ensure!(reason == "LOG_START_AHEAD", "{reason}");
    ensure!(
        begins as i64 >= from && ends_at as i64 == to,
        "[{begins}, {ends_at}) for [{from}, {to})"
    );
    let expected = BTreeMap::from([(2, stop("LOG_START_AHEAD", begins as i64, to))]);
    fleet.stopped(0, &expected).await?;
    others_go_on(&fleet, &[2]).await?;
    fleet.stop().await?;
    let after = committed(&fleet.positions().await?);
    ensure!(after[2] == begins as i64, "committed {} of {begins}", after[2]);
    Ok(())
}

/// Checks that a re-created topic was left alone.
async fn nothing_of_the_new_topic(fleet: &Fleet, expected: &[String]) -> Result<()> {
    let positions = committed(&fleet.positions().await?);
    ensure!(positions == [-1; 4], "committed against the new topic: {positions:?}");
    ensure!(sums(fleet).await? == expected, "rows of the new topic were written");
    Ok(())
}

async fn sums(fleet: &Fleet) -> Result<Vec<String>> {
    let mut sums = Vec::new();
    for table in ["t_fund_valuation", "t_ai_risk", "t_fund_basic_info"] {
        sums.push(checksum(&dump_table(&fleet.pool, table).await?));
    }
    Ok(sums)
}

fn all_recreated() -> BTreeMap<u16, Stop> {
    (0..4)
        .map(|number| (number, ("TOPIC_RECREATED".to_owned(), None)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_topic_recreated_while_the_worker_is_down_stops_every_partition() -> Result<()> {
    let mut fleet = with_history("offsets-again-down", false).await?;
    let expected = sums(&fleet).await?;
    fleet.delete_topic().await?;
    fleet.create_topic().await?;
    fleet.publish(feed(2, 20_000)).await?;
    let worker = fleet.start_worker()?;
    fleet.stopped(worker, &all_recreated()).await?;
    nothing_of_the_new_topic(&fleet, &expected).await?;
    fleet.stop().await?;
    nothing_of_the_new_topic(&fleet, &expected).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_topic_recreated_under_a_running_worker_stops_every_partition() -> Result<()> {
    let mut fleet = with_history("offsets-again-running", true).await?;
    let expected = sums(&fleet).await?;
    fleet.delete_topic().await?;
    wait_for("the loss to be noticed", PATIENCE, async || {
        let stops = fleet.stops().await?;
        ensure!(
            stops.len() == 4 && stops.values().all(|(reason, _)| reason == "TOPIC_MISSING"),
            "{stops:?}"
        );
        Ok(())
    })
    .await
    .with_context(|| fleet.log_of(0))?;
    fleet.create_topic().await?;
    fleet.publish(feed(2, 20_000)).await?;
    fleet.stopped(0, &all_recreated()).await?;
    nothing_of_the_new_topic(&fleet, &expected).await?;
    fleet.stop().await?;
    nothing_of_the_new_topic(&fleet, &expected).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_committed_offset_beyond_the_log_stops_the_partition() -> Result<()> {
    let mut fleet = with_history("offsets-beyond", false).await?;
    let end = fleet.positions().await?[3].1;
    fleet.commit(3, end + 50).await?;
    let worker = fleet.start_worker()?;
    let expected = BTreeMap::from([(3, stop("LOG_END_BEHIND", end, end + 50))]);
    fleet.stopped(worker, &expected).await?;
    fleet.publish(feed(2, 2_000)).await?;
    fleet.stopped(worker, &expected).await?;
    others_go_on(&fleet, &[3]).await?;
    let after = committed(&fleet.positions().await?)[3];
    ensure!(after == end + 50, "committed {after}");
    let consumed = sum(&fleet.metrics(worker).await?, "reprise_records_consumed_total", &[]);
    let ends: i64 = fleet.positions().await?.iter().map(|(_, end)| end).sum();
    ensure!(consumed < (ends - 4_000) as f64, "partition 3 was read: {consumed}");
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_lost_offsets_stop_every_partition() -> Result<()> {
    let mut fleet = with_history("offsets-lost", false).await?;
    let before = fleet.positions().await?;
    fleet.delete_group().await?;
    let worker = fleet.start_worker()?;
    let expected = (0..4_u16)
        .map(|number| (number, stop("OFFSETS_LOST", 0, before[usize::from(number)].1)))
        .collect();
    fleet.stopped(worker, &expected).await?;
    ensure!(
        committed(&fleet.positions().await?) == [-1; 4],
        "something was committed"
    );
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_latest_counts_for_a_new_topic_only() -> Result<()> {
    let mut options = Options::quick();
    options
        .settings
        .push(("ingest.start_at".to_owned(), "latest".to_owned()));
    let mut fleet = Fleet::new("offsets-latest", options).await?;
    fleet.seed(&feed(1, 0)).await?;
    fleet.publish(feed(1, 1_000)).await?;
    fleet.start_workers(1).await?;
    // Known once every start is committed.
    fleet.caught_up(PATIENCE).await?;
    fleet.publish(feed(2, 1_000)).await?;
    fleet.caught_up(PATIENCE).await?;
    let consumed = sum(&fleet.metrics(0).await?, "reprise_records_consumed_total", &[]);
    ensure!(consumed == 1_000.0, "consumed {consumed}");
    fleet.stop().await?;
    fleet.publish(feed(3, 1_000)).await?;
    let worker = fleet.start_worker()?;
    fleet.caught_up(PATIENCE).await?;
    let consumed = sum(&fleet.metrics(worker).await?, "reprise_records_consumed_total", &[]);
    ensure!(consumed == 1_000.0, "consumed {consumed} after the second start");
    fleet.stop().await
}
