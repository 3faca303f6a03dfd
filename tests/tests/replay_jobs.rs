//! Replays from the call to the rows: a control plane, ingest and replay workers on real servers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::fleet_service_client::FleetServiceClient;
use reprise_proto::v1::replay_spec::Records;
use reprise_proto::v1::resume_ingest_request::Target;
use reprise_proto::v1::*;
use reprise_tests::control::refused;
use reprise_tests::feed::FeedConfig;
use reprise_tests::fleet::{PATIENCE, feed_of_all_kinds};
use reprise_tests::jobs::{everything, job_of, offsets_of, rows_of};
use reprise_tests::stage::{Stage, ids};
use reprise_tests::wait::wait_for;
use tonic::Code;

const TYPES: [&str; 3] = ["fund_basic", "fund_valuation", "fund_risk"];

fn feed(seed: u64, records: u64) -> FeedConfig {
    FeedConfig {
        funds: 100,
        ..feed_of_all_kinds(Some(records), seed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_catching_up_brings_in_exactly_what_the_whitelist_kept_out() -> Result<()> {
    let stage = Stage::new("jobs-catch-up").await?;
    let seed = feed(1, 4_000);
    stage.fleet.seed(&seed).await?;
    let since = stage.allow(ids(1..=10)).await?;
    stage.ingest(&seed).await?;
    stage.fleet.check_tables(Some(seed.clone()), ids(1..=10)).await?;
    stage.allow(ids(1..=14)).await?;
    stage
        .ingest(&FeedConfig {
            start: seed.start,
            ..feed(2, 4_000)
        })
        .await?;
    let catch_up = |since_version| ReplaySpec {
        records: Some(Records::CatchUp(ReplayCatchUp { since_version })),
        ..everything(&TYPES, ReplayMode::Live)
    };
    let job = stage.run(catch_up(since)).await?;
    ensure!(rows_of(&job).inserted > 0, "{job:?}");
    // As if the four had been on the list from the beginning.
    let folded = stage.fleet.check_tables(Some(seed.clone()), ids(1..=14)).await?;
    stage.fleet.check_letters(&folded).await?;
    // Once more changes nothing: what came in is as it was.
    let before = stage.checksums().await?;
    let again = rows_of(&stage.run(catch_up(since)).await?);
    ensure!((again.inserted, again.updated) == (0, 0), "{again:?}");
    ensure!(stage.checksums().await? == before, "a second catch-up changed rows");
    stage.stop().await
}

/// Returns kind and key of each mismatch.
fn found(mismatches: &[Mismatch]) -> Result<BTreeMap<(String, String), MismatchKind>> {
    let key = |mismatch: &Mismatch| {
        let key: serde_json::Value = serde_json::from_str(&mismatch.key_json)?;
        let text = |name: &str| key[name].as_str().map(str::to_owned).context("no such column");
        Ok(((text("fund_code")?, text("nav_date")?), mismatch.kind()))
    };
    mismatches.iter().map(key).collect()
}

/// Damages, removes and ages rows of the valuations; returns what a VERIFY has to find.
async fn damage(stage: &Stage) -> Result<BTreeMap<(String, String), MismatchKind>> {
    let keys = "SELECT fund_code, CAST(nav_date AS CHAR) FROM t_fund_valuation ORDER BY nav_date, fund_code LIMIT 12";
    let keys: Vec<(String, String)> = sqlx::query_as(keys).fetch_all(&stage.fleet.pool).await?;
    ensure!(keys.len() == 12, "too few rows");
    let mut expected = BTreeMap::new();
    for (number, (code, date)) in keys.into_iter().enumerate() {
        let row = format!("fund_code = '{code}' AND nav_date = '{date}'");
        let (statement, kind) = match number % 3 {
            0 => (
                format!("UPDATE t_fund_valuation SET unit_nav = unit_nav + 1 WHERE {row}"),
                MismatchKind::Different,
            ),
            1 => (
                format!("DELETE FROM t_fund_valuation WHERE {row}"),
                MismatchKind::Missing,
            ),
            _ => (
                format!(
                    "UPDATE t_fund_valuation SET unit_nav = 1, source_time = source_time - INTERVAL 1 DAY WHERE {row}"
                ),
                MismatchKind::Older,
            ),
        };
        ensure!(stage.execute(&statement).await? == 1, "{statement}");
        expected.insert((code, date), kind);
    }
    Ok(expected)
}

/// Has MySQL note the keys of valuations that are inserted, or whose values change, from now on.
async fn note_changes(stage: &Stage) -> Result<()> {
    for statement in [
        "CREATE TABLE changed_valuations SELECT fund_code, nav_date FROM t_fund_valuation LIMIT 0",
        "CREATE TRIGGER note_inserted AFTER INSERT ON t_fund_valuation FOR EACH ROW \
         INSERT INTO changed_valuations VALUES (NEW.fund_code, NEW.nav_date)",
        // An upsert also updates rows to what they are.
        "CREATE TRIGGER note_updated AFTER UPDATE ON t_fund_valuation FOR EACH ROW \
         INSERT INTO changed_valuations SELECT NEW.fund_code, NEW.nav_date FROM DUAL \
         WHERE NOT (NEW.unit_nav <=> OLD.unit_nav AND NEW.accumulated_nav <=> OLD.accumulated_nav \
         AND NEW.source_time <=> OLD.source_time AND NEW.source_position <=> OLD.source_position)",
    ] {
        sqlx::raw_sql(statement).execute(&stage.fleet.pool).await?;
    }
    Ok(())
}

/// Returns the keys that were noted.
async fn noted(stage: &Stage) -> Result<BTreeSet<(String, String)>> {
    let keys = "SELECT DISTINCT fund_code, CAST(nav_date AS CHAR) FROM changed_valuations";
    let keys: Vec<(String, String)> = sqlx::query_as(keys).fetch_all(&stage.fleet.pool).await?;
    Ok(keys.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_reports_exactly_what_was_damaged_and_repair_mends_exactly_that() -> Result<()> {
    let stage = Stage::new("jobs-verify").await?;
    let seed = feed(3, 6_000);
    stage.fleet.seed(&seed).await?;
    stage.ingest(&seed).await?;
    let folded = stage.fleet.check_tables(Some(seed.clone()), Vec::new()).await?;
    let whole = stage.checksums().await?;
    let verify = || everything(&["fund_valuation"], ReplayMode::Verify);
    let job = stage.run(verify()).await?;
    let listed = stage.jobs.mismatches(&job.job_id).await?;
    ensure!(listed.is_empty(), "nothing is damaged yet: {listed:?}");

    let expected = damage(&stage).await?;
    let damaged = stage.checksums().await?;
    let job = stage.run(verify()).await?;
    let listed = stage.jobs.mismatches(&job.job_id).await?;
    ensure!(found(&listed)? == expected, "{listed:?}, not {expected:?}");
    let rows = rows_of(&job);
    ensure!(rows.inserted + rows.updated + rows.deleted == 0, "{rows:?}");
    ensure!(stage.checksums().await? == damaged, "VERIFY wrote");

    let isolated = stage.run(everything(&["fund_valuation"], ReplayMode::Isolated)).await?;
    ensure!(stage.checksums().await? == damaged, "ISOLATED wrote to the live table");
    let copied = stage.fleet.count("t_fund_valuation_replay").await?;
    let removed = expected.values().filter(|kind| **kind == MismatchKind::Missing).count();
    let stored = stage.fleet.count("t_fund_valuation").await?;
    ensure!(
        copied == stored + i64::try_from(removed)?,
        "{copied} rows beside {stored}"
    );
    ensure!(rows_of(&isolated).inserted == u64::try_from(copied)?, "{isolated:?}");

    note_changes(&stage).await?;
    let repaired = rows_of(&stage.run(everything(&["fund_valuation"], ReplayMode::Repair)).await?);
    let (noted, damaged): (_, BTreeSet<_>) = (noted(&stage).await?, expected.keys().cloned().collect());
    ensure!(noted == damaged, "{noted:?} were changed, {damaged:?} were damaged");
    ensure!(repaired.inserted == removed as u64, "{repaired:?}");
    ensure!(repaired.updated >= (expected.len() - removed) as u64, "{repaired:?}");
    ensure!(stage.checksums().await? == whole, "the rows are not what they were");
    stage.fleet.check_letters(&folded).await?;
    stage.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_jobs_leave_offsets_and_groups_as_they_were() -> Result<()> {
    const JOBS: u64 = 100;
    let stage = Stage::new("jobs-hundred").await?;
    let seed = feed(4, 4_000);
    stage.fleet.seed(&seed).await?;
    stage.ingest(&seed).await?;
    let (positions, whole) = (stage.fleet.positions().await?, stage.checksums().await?);
    let mut begun = Vec::new();
    for number in 0..JOBS {
        let partition = u32::try_from(number % 4)?;
        let (start, end) = (number * 5, number * 5 + 40);
        let replay = ReplaySpec {
            records: Some(offsets_of(&[(partition, start, end)])),
            ..everything(&["fund_valuation"], ReplayMode::Live)
        };
        begun.push(stage.jobs.begin(job_of(replay)).await?);
    }
    for job in &begun {
        let job = stage.jobs.ended(&job.job_id, PATIENCE).await?;
        ensure!(job.state() == JobState::Succeeded, "{job:?}");
        let progress = job.progress.as_ref().context("no progress")?;
        ensure!(progress.records_read == 40, "{job:?}");
        ensure!(rows_of(&job).inserted + rows_of(&job).updated == 0, "{job:?}");
    }
    ensure!(stage.fleet.positions().await? == positions, "committed positions moved");
    ensure!(stage.checksums().await? == whole, "rows changed");
    let admin = stage.fleet.isolation.admin()?;
    let groups = admin.inner().fetch_group_list(None, Duration::from_secs(10))?;
    let ours = stage.fleet.isolation.group();
    let names: Vec<&str> = groups.groups().iter().map(|group| group.name()).collect();
    let like = |name: &&&str| name.starts_with("reprise") || name.starts_with(&ours);
    let strange: Vec<_> = names.iter().filter(like).filter(|name| ***name != ours).collect();
    ensure!(names.contains(&ours.as_str()), "{names:?}");
    ensure!(strange.is_empty(), "{strange:?}");
    stage.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_resume_and_cancel_take_effect_within_two_seconds() -> Result<()> {
    const SOON: Duration = Duration::from_secs(2);
    let stage = Stage::new("jobs-pause").await?;
    let seed = feed(5, 8_000);
    stage.fleet.seed(&seed).await?;
    stage.ingest(&seed).await?;
    stage.execute("DELETE FROM t_fund_valuation").await?;
    let slow = JobSpec {
        max_records_per_second: 400,
        ..job_of(everything(&["fund_valuation"], ReplayMode::Live))
    };
    let id = stage.jobs.begin(slow).await?.job_id;
    let moving = |job: &Job| {
        job.progress
            .as_ref()
            .is_some_and(|progress| progress.positions_done > 0)
    };
    stage.jobs.until(&id, PATIENCE, moving).await?;
    let mut client = stage.jobs.client.clone();
    let pause = PauseJobRequest {
        job_id: id.clone(),
        ..PauseJobRequest::default()
    };
    client.pause_job(pause.clone()).await?;
    let paused = stage
        .jobs
        .until(&id, SOON, |job| job.state() == JobState::Paused)
        .await?;
    let status = client.pause_job(pause).await.expect_err("it is paused");
    refused(&status, Code::FailedPrecondition, "WRONG_STATE", "PAUSED")?;
    let rows = stage.fleet.count("t_fund_valuation").await?;
    ensure!(rows > 0, "{paused:?}");
    let resume = ResumeJobRequest {
        job_id: id.clone(),
        ..ResumeJobRequest::default()
    };
    client.resume_job(resume).await?;
    let running = |job: &Job| job.state() == JobState::Running;
    stage.jobs.until(&id, SOON, running).await?;
    let cancel = CancelJobRequest {
        job_id: id.clone(),
        ..CancelJobRequest::default()
    };
    client.cancel_job(cancel).await?;
    let cancelled = stage
        .jobs
        .until(&id, SOON, |job| job.state() == JobState::Cancelled)
        .await?;
    let written = rows_of(&cancelled);
    let rows = stage.fleet.count("t_fund_valuation").await?;
    ensure!(written.inserted == u64::try_from(rows)?, "{written:?}, but {rows} rows");
    stage.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_job_does_not_wait_for_a_large_one() -> Result<()> {
    let stage = Stage::new("jobs-fair").await?;
    let seed = feed(6, 8_000);
    stage.fleet.seed(&seed).await?;
    stage.ingest(&seed).await?;
    let large = JobSpec {
        max_records_per_second: 200,
        ..job_of(everything(&TYPES, ReplayMode::Live))
    };
    let large = stage.jobs.begin(large).await?.job_id;
    stage
        .jobs
        .until(&large, PATIENCE, |job| job.state() == JobState::Running)
        .await?;
    let small = ReplaySpec {
        records: Some(offsets_of(&[(0, 0, 100)])),
        ..everything(&["fund_risk"], ReplayMode::Live)
    };
    stage.run(small).await?;
    let large = stage.jobs.get(&large).await?;
    ensure!(large.state() == JobState::Running, "{large:?}");
    stage.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_what_was_deferred_is_replayed_when_its_type_goes_on() -> Result<()> {
    let stage = Stage::new("jobs-deferred").await?;
    let seed = feed(7, 3_000);
    stage.fleet.seed(&seed).await?;
    stage.ingest(&seed).await?;
    let mut client = FleetServiceClient::new(stage.server.channel());
    let pause = PauseIngestRequest {
        data_type: "fund_risk".to_owned(),
        reason: "upstream sends rubbish".to_owned(),
        ..PauseIngestRequest::default()
    };
    client.pause_ingest(pause).await?;
    stage.ingest(&feed(8, 3_000)).await?;
    ensure!(stage.fleet.count("deferred").await? > 0, "nothing was deferred");
    let resume = ResumeIngestRequest {
        target: Some(Target::DataType("fund_risk".to_owned())),
        reason: "mended".to_owned(),
        ..ResumeIngestRequest::default()
    };
    client.resume_ingest(resume).await?;
    wait_for("the deferred intervals to be settled", PATIENCE, async || {
        let owed = stage.fleet.count("deferred WHERE settled_at IS NULL").await?;
        ensure!(owed == 0, "{owed} are owed");
        Ok(())
    })
    .await?;
    stage.fleet.check_tables(Some(seed), Vec::new()).await?;
    stage.stop().await
}
