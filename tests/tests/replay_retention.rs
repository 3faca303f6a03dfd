//! Retention deletes a part of what a job was asked for: before it is planned, between plan and run, and under it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::{Job, JobMissing, JobSpec, JobState, MissingReason, ReplayMode, ReplaySpec};
use reprise_shared::position::SourcePosition;
use reprise_tests::control::refused;
use reprise_tests::feed::{FeedConfig, FeedRecord, Fund, Made, moment};
use reprise_tests::fleet::{Options, PATIENCE};
use reprise_tests::jobs::{everything, job_of, offsets_of};
use reprise_tests::stage::Stage;
use tonic::{Code, Status};

/// Records of each of the two partitions.
const RECORDS: u32 = 3_000;
const FUNDS: u32 = 50;

/// A partition and an interval of its offsets.
type Piece = (u32, u64, u64);

/// Valuations with a row of their own each, too large to be fetched ahead.
fn records() -> Vec<FeedRecord> {
    let pad = "x".repeat(3_000);
    let made = |number: u32| {
        let day = jiff::civil::date(2001, 1, 1) + jiff::Span::new().days(i64::from(number / FUNDS));
        let version = i64::from(number);
        let mut record = Made::valuation(Fund(1 + number % FUNDS), &[(day.to_string().as_str(), version)]).record;
        record.partition = Some(i32::from(number % 2 == 1));
        record.timestamp_ms = moment(version).as_millisecond();
        // Members that no column names are passed over.
        record.payload = record.payload.map(|payload| {
            let text = String::from_utf8_lossy(&payload);
            format!(r#"{{"pad":"{pad}",{}"#, &text[1..]).into_bytes()
        });
        record
    };
    (0..2 * RECORDS).map(made).collect()
}

async fn stage(name: &str) -> Result<Stage> {
    let mut options = Options {
        partitions: 2,
        ..Options::quick()
    };
    for (key, value) in [
        ("replay.fetch_ahead", "1MiB"),
        ("kafka.properties.fetch.message.max.bytes", "20000"),
        ("replay.live_first.latency_cut", "20s"),
        ("replay.live_first.latency_hold", "60s"),
    ] {
        options.settings.push((key.to_owned(), value.to_owned()));
    }
    let mut stage = Stage::without_workers(name, options, Vec::new()).await?;
    stage.fleet.seed(&FeedConfig::only_funds(FUNDS)).await?;
    stage.fleet.publish_records(records()).await?;
    stage.fleet.start_workers(1).await?;
    stage.fleet.caught_up(PATIENCE).await?;
    Ok(stage)
}

/// Asks for a part of both partitions, into rows of the job's own.
fn asked(allow_partial: bool, per_second: u64) -> JobSpec {
    JobSpec {
        allow_partial,
        max_records_per_second: per_second,
        ..job_of(ReplaySpec {
            records: Some(offsets_of(&[(0, 100, 2_900), (1, 0, 3_000)])),
            ..everything(&["fund_valuation"], ReplayMode::Isolated)
        })
    }
}

fn pieces(missing: &[JobMissing]) -> Result<Vec<Piece>> {
    let piece = |one: &JobMissing| {
        ensure!(
            one.reason() == MissingReason::Expired && one.data_type == "fund_valuation",
            "{one:?}"
        );
        let offsets = one.offsets.context("no offsets")?;
        Ok((one.partition, offsets.start, offsets.end))
    };
    missing.iter().map(piece).collect()
}

/// Checks that a job ended as PARTIAL, and that its rows come from exactly the records that are not missing. Returns what
/// is.
async fn partial(stage: &Stage, id: &str) -> Result<Vec<Piece>> {
    let job = stage.jobs.ended(id, PATIENCE).await?;
    ensure!(job.state() == JobState::Partial, "{job:?}");
    let missing = pieces(&job.missing)?;
    let lost = |partition: u32, offset: u64| {
        missing
            .iter()
            .any(|(number, start, end)| *number == partition && (*start..*end).contains(&offset))
    };
    let all = (100..2_900)
        .map(|offset| (0, offset))
        .chain((0..3_000).map(|offset| (1, offset)));
    let expected: BTreeSet<(u32, u64)> = all.filter(|(partition, offset)| !lost(*partition, *offset)).collect();
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT source_position FROM t_fund_valuation_replay WHERE replay_job_id = ?")
            .bind(id)
            .fetch_all(&stage.fleet.pool)
            .await?;
    let taken: Option<BTreeSet<(u32, u64)>> = rows
        .iter()
        .map(|row| SourcePosition::from_bytes(row).map(|at| (at.partition().0.into(), at.offset().0)))
        .collect();
    let taken = taken.context("a position")?;
    let (less, more) = (expected.difference(&taken).next(), taken.difference(&expected).next());
    ensure!(
        less.is_none() && more.is_none(),
        "first {less:?} and {more:?}, with {missing:?} missing"
    );
    let read = job.progress.context("no progress")?.records_read;
    ensure!(
        read == expected.len() as u64,
        "{read} were read, not {}",
        expected.len()
    );
    eprintln!("partial: {missing:?} missing, {read} records read");
    Ok(missing)
}

async fn refusal(stage: &Stage, spec: JobSpec) -> Result<Status> {
    let error = stage.jobs.plan(spec).await.err().context("it was planned")?;
    error.downcast()
}

/// Waits until a job failed because of what was deleted; returns what it says.
async fn failed(stage: &Stage, id: &str) -> Result<Job> {
    let job = stage.jobs.ended(id, PATIENCE).await?;
    ensure!(
        job.state() == JobState::Failed && job.reason == "DATA_EXPIRED",
        "{job:?}"
    );
    eprintln!("failed: {}", job.detail);
    Ok(job)
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_what_retention_deletes_is_refused_or_missing_exactly_whenever_it_does() -> Result<()> {
    let mut stage = stage("retention").await?;
    // Before the plan.
    stage.fleet.delete_records(0, 333).await?;
    let status = refusal(&stage, asked(false, 0)).await?;
    refused(&status, Code::FailedPrecondition, "DATA_EXPIRED", ":0 [100, 333)")?;
    let before = stage.jobs.begin(asked(true, 0)).await?.job_id;

    // Between plan and run: nobody is there yet who runs it.
    let strict = ReplaySpec {
        records: Some(offsets_of(&[(0, 400, 2_900), (1, 200, 3_000)])),
        ..everything(&["fund_valuation"], ReplayMode::Isolated)
    };
    let strict = stage.jobs.begin(job_of(strict)).await?.job_id;
    stage.fleet.delete_records(0, 500).await?;
    stage.fleet.delete_records(1, 50).await?;
    stage.fleet.start_replay_workers(1).await?;
    ensure!(
        partial(&stage, &before).await? == [(0, 100, 500), (1, 0, 50)],
        "of {before}"
    );
    let told = failed(&stage, &strict).await?.detail;
    ensure!(told.contains("[400, 500)") && told.contains("allow_partial"), "{told}");

    // During the run.
    let slow = stage.jobs.begin(asked(true, 400)).await?.job_id;
    let reads = |job: &Job| {
        job.progress
            .as_ref()
            .is_some_and(|progress| progress.records_read > 100)
    };
    stage.jobs.until(&slow, PATIENCE, reads).await?;
    stage.fleet.delete_records(1, 2_950).await?;
    let missing = partial(&stage, &slow).await?;
    ensure!(
        matches!(missing[..], [(0, 100, 500), (1, 0, 50), (1, from, 2_950)] if (50..2_900).contains(&from)),
        "{missing:?}"
    );
    stage.stop().await
}
