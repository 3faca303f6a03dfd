//! Slices are read to their very end, whatever lies there, and what cannot be read is named.

use anyhow::{Context as _, Result, ensure};
use reprise_shared::jobs::JobState;
use reprise_tests::feed::{FeedConfig, FeedRecord, Fund, Made, moment};
use reprise_tests::fleet::{Asked, Fleet, Options, PATIENCE};
use reprise_tests::wait::wait_for;

fn options(topic: &[(&'static str, &'static str)]) -> Options {
    let settings = [
        ("replay.live_first.floor_rate", "4000000000"),
        ("replay.live_first.latency_cut", "20s"),
        ("replay.live_first.latency_hold", "60s"),
        ("replay.poll", "100ms"),
        ("replay.checkpoint", "200ms"),
        ("replay.lost_after", "2s"),
    ];
    Options {
        settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        topic: topic.to_vec(),
        ..Options::default()
    }
}

const FUNDS: u32 = 50;

/// A valuation of a fund on a day of March 2024, into one partition.
fn valuation(partition: i32, fund: u32, day: u32, version: i64) -> FeedRecord {
    let day = format!("2024-03-{day:02}");
    let mut record = Made::valuation(Fund(fund), &[(day.as_str(), version)]).record;
    record.partition = Some(partition);
    record.timestamp_ms = moment(version).as_millisecond();
    record
}

/// Replays everything and checks tables and counts.
async fn check(fleet: &mut Fleet) -> Result<()> {
    fleet.start_replay_workers(1).await?;
    let asked = Asked::default();
    let slices = fleet.slices("fund_valuation", asked.slice).await?;
    let ends: Vec<_> = slices.iter().map(|slice| (slice.start.0, slice.end.0)).collect();
    let (folded, read) = fleet.oracle_of(&slices, &asked, FeedConfig::only_funds(FUNDS)).await?;
    let job = fleet.replay_slices(slices, &asked).await?;
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    ensure!(progress.read.read == read, "{} of {read} were read", progress.read.read);
    ensure!(progress.positions_done == progress.positions, "{progress:?}");
    folded.compare(&fleet.pool).await?;
    eprintln!("{read} records in slices {ends:?}, equal to the oracle");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_committed_aborted_and_open_end_where_the_log_is_stable() -> Result<()> {
    let mut fleet = Fleet::new("replay-transactions", options(&[])).await?;
    fleet.seed(&FeedConfig::only_funds(FUNDS)).await?;
    let some = |partition, fund, days: std::ops::Range<u32>| -> Vec<FeedRecord> {
        days.map(|day| valuation(partition, fund, day, 1)).collect()
    };
    // Partition 0: committed, aborted, committed, and an aborted tail. 1: only aborted. 2: empty. 3: committed, then open.
    let all = vec![
        (true, some(0, 1, 1..10)),
        (false, some(0, 2, 1..10)),
        (true, some(0, 3, 1..10)),
        (false, some(0, 4, 1..10)),
        (false, some(1, 5, 1..10)),
        (true, some(3, 6, 1..10)),
    ];
    let done = fleet.transactions("first", all, Vec::new()).await?;
    let open = fleet.transactions("second", Vec::new(), some(3, 7, 1..10)).await?;
    check(&mut fleet).await?;
    drop((done, open));
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_with_gaps_is_read_to_its_end() -> Result<()> {
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    let mut fleet = Fleet::new("replay-compacted", options(&compacted)).await?;
    fleet.seed(&FeedConfig::only_funds(FUNDS)).await?;
    let mut sent = 0;
    for version in 0..4 {
        let round: Vec<FeedRecord> = (1..40).map(|fund| valuation(0, fund, 5, version)).collect();
        sent += round.len() as u64;
        fleet.publish_records(round).await?;
    }
    let mut version = 4;
    wait_for("compaction", PATIENCE, async || {
        // Only a record that is later by its own time ends a segment.
        version += 1;
        fleet.publish_records(vec![valuation(0, 1, 5, version)]).await?;
        sent += 1;
        let slices = fleet.slices("fund_valuation", 200_000).await?;
        let (_, left) = fleet
            .oracle_of(&slices, &Asked::default(), FeedConfig::only_funds(FUNDS))
            .await?;
        ensure!(left < sent - 50, "{left} of {sent} records are left");
        Ok(())
    })
    .await?;
    // The oracle and the replay have to read the same, so what is left stays.
    let settings = [("cleanup.policy", "delete"), ("retention.ms", "-1")];
    fleet.configure_topic(&settings).await?;
    check(&mut fleet).await?;
    fleet.stop().await
}

/// A feed of one partition, replayed slowly.
async fn slow(name: &str, allow_partial: bool) -> Result<(Fleet, reprise_shared::jobs::JobId, u64)> {
    let mut fleet = Fleet::new(
        name,
        Options {
            partitions: 1,
            ..options(&[])
        },
    )
    .await?;
    // Little is fetched ahead, so that what is deleted is really missed.
    fleet.set("replay.fetch_ahead", "1MiB");
    fleet.set("kafka.properties.fetch.message.max.bytes", "20000");
    fleet.seed(&FeedConfig::only_funds(FUNDS)).await?;
    let pad = "x".repeat(3_000);
    let records = (0..20_000_u32).map(|number| {
        let mut record = valuation(0, 1 + number % 50, 1 + number / 50 % 28, i64::from(number));
        // Members that no column names are passed over.
        let payload = record.payload.as_deref().map(|payload| {
            let text = String::from_utf8_lossy(payload);
            format!(r#"{{"pad":"{pad}",{}"#, &text[1..]).into_bytes()
        });
        record.payload = payload;
        record
    });
    fleet.publish_records(records.collect()).await?;
    fleet.start_replay_workers(1).await?;
    let asked = Asked {
        per_second: Some(400),
        allow_partial,
        ..Asked::default()
    };
    let job = fleet.replay("fund_valuation", &asked).await?;
    fleet.job_reads(job, 100, PATIENCE).await?;
    Ok((fleet, job, 20_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_what_retention_deletes_during_the_run_is_missing_exactly_or_fails_the_job() -> Result<()> {
    let (mut fleet, job, end) = slow("replay-deleted", true).await?;
    let cut = 19_500;
    fleet.delete_records(0, cut).await?;
    let found = fleet.job_ends(job, PATIENCE).await?;
    ensure!(
        found.state == JobState::Partial,
        "{:?}: {} {}",
        found.state,
        found.reason,
        found.detail
    );
    let missing = fleet.missing(job).await?;
    let progress = fleet.progress(job).await?;
    let cut = u64::try_from(cut)?;
    ensure!(
        matches!(missing[..], [(0, from, to, "EXPIRED")] if to == cut && from < cut),
        "missing: {missing:?}"
    );
    let read = missing[0].1 + (end - cut);
    ensure!(
        progress.read.read == read,
        "{} records were read, not {read}: {missing:?}",
        progress.read.read
    );
    eprintln!("partial: {missing:?}, {read} records read");
    fleet.stop().await?;

    let (mut fleet, job, _) = slow("replay-refused", false).await?;
    fleet.delete_records(0, i64::try_from(cut)?).await?;
    let found = fleet.job_ends(job, PATIENCE).await?;
    ensure!(
        found.state == JobState::Failed && found.reason == "DATA_EXPIRED" && found.detail.contains("19500)"),
        "{:?}: {} {}",
        found.state,
        found.reason,
        found.detail
    );
    eprintln!("failed: {}", found.detail);
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_recreated_topic_is_never_taken_for_the_one_of_the_slice() -> Result<()> {
    let (mut fleet, job, end) = slow("replay-recreated", true).await?;
    fleet.delete_topic().await?;
    fleet.create_topic().await?;
    let records = (0..500).map(|number| valuation(0, 1 + number % 50, 1, 1));
    fleet.publish_records(records.collect()).await?;
    let found = fleet.job_ends(job, PATIENCE).await?;
    ensure!(
        found.state == JobState::Partial,
        "{:?}: {} {}",
        found.state,
        found.reason,
        found.detail
    );
    let missing = fleet.missing(job).await?;
    ensure!(
        matches!(missing[..], [(0, from, to, "RECREATED")] if to == end && from >= 100),
        "missing: {missing:?}"
    );
    let progress = fleet.progress(job).await.context("progress")?;
    ensure!(
        progress.read.read == missing[0].1,
        "{} were read: {missing:?}",
        progress.read.read
    );
    eprintln!("partial: {missing:?}");
    fleet.stop().await
}
