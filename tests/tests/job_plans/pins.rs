//! What a plan stands on: the log as it is, the whitelist, and the other jobs.

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::*;
use reprise_shared::ledger::{Interval, Keys, Reader};
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};
use reprise_shared::redis::Limit;
use reprise_tests::control::refused;
use reprise_tests::fleet::{Fleet, PATIENCE};
use reprise_tests::jobs::Jobs;
use tonic::Code;

use crate::world::{offsets, replay, spec, times, world};

#[tokio::test(flavor = "multi_thread")]
async fn i9_what_kafka_has_deleted_is_refused_or_missing_exactly() -> Result<()> {
    let mut world = world("plan-expired").await?;
    world.fleet.delete_records(1, 333).await?;
    let asked = || replay(&["fund_risk"], offsets(&[(0, 10, 200), (1, 100, 600)]));
    let status = world.plan_refused(spec(asked())).await?;
    refused(&status, Code::FailedPrecondition, "DATA_EXPIRED", ":1 [100, 333)")?;

    let partly = JobSpec {
        allow_partial: true,
        ..spec(asked())
    };
    let (token, plan) = world.plan(partly.clone()).await?;
    let missing = |missing: &[JobMissing]| -> Vec<(u32, u64, u64)> {
        let bounds = |one: &JobMissing| one.offsets.map_or((0, 0), |offsets| (offsets.start, offsets.end));
        missing
            .iter()
            .map(|one| (one.partition, bounds(one).0, bounds(one).1))
            .collect()
    };
    ensure!(missing(&plan.missing) == [(1, 100, 333)], "{plan:?}");
    // More goes between plan and creation.
    let strict = spec(replay(&["fund_risk"], offsets(&[(1, 400, 600)])));
    let (strict, _) = world.plan(strict).await?;
    world.fleet.delete_records(1, 450).await?;
    let status = world.create(strict).await.expect_err("it is deleted");
    refused(&status, Code::FailedPrecondition, "DATA_EXPIRED", ":1 [400, 450)")?;
    let job = world.create(token).await?;
    let got = world
        .client
        .get_job(GetJobRequest { job_id: job.job_id })
        .await?
        .into_inner();
    let found = missing(&got.job.context("no job")?.missing);
    ensure!(found == [(1, 100, 450)], "{found:?}");

    // By record time: the ledger knows what was deleted, whatever the window.
    let times_of = |partition: u32, offset: u64| {
        let found = world
            .records
            .iter()
            .find(|record| (record.partition, record.offset) == (partition, offset));
        found.map_or(0, |record| record.time)
    };
    let (start, end) = (times_of(1, 0) - 60_000, times_of(1, 600));
    let window = spec(replay(&["fund_risk"], times(start, end, TimeBasis::Record)));
    let status = world.plan_refused(window).await?;
    refused(&status, Code::FailedPrecondition, "DATA_EXPIRED", ", 450)")?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_holds_only_for_the_whitelist_that_it_was_made_with() -> Result<()> {
    let mut world = world("plan-pins").await?;
    let asked = || spec(replay(&["fund_risk"], offsets(&[(0, 10, 200)])));
    let (token, first) = world.plan(asked()).await?;
    world.whitelist(&["0P-new".to_owned()], &[]).await?;
    let status = world.create(token.clone()).await.expect_err("the whitelist changed");
    refused(&status, Code::Aborted, "PLAN_OUTDATED", "plan again")?;
    let listed = world.client.list_jobs(ListJobsRequest::default()).await?.into_inner();
    ensure!(listed.jobs.is_empty(), "{listed:?}");
    let (token, second) = world.plan(asked()).await?;
    ensure!(
        second.whitelist_version == first.whitelist_version + 1 && second.overlaps.is_empty(),
        "{second:?}"
    );
    let job = world.create(token).await?;
    let (_, third) = world.plan(asked()).await?;
    ensure!(
        third.overlaps.len() == 1 && third.overlaps[0].job_id == job.job_id,
        "{third:?}"
    );
    let rated = JobSpec {
        max_records_per_second: 19,
        ..asked()
    };
    let (_, rated) = world.plan(rated).await?;
    ensure!(rated.duration_at_rate.map(|time| time.seconds) == Some(10), "{rated:?}");
    world.end().await
}

/// Takes what a partition's ledger covers from a position on out of Redis.
async fn lose_from(fleet: &Fleet, partition: u16, from: u64) -> Result<()> {
    let place = TopicPartition {
        topic: TopicName::new(&fleet.topic),
        partition: Partition(partition),
    };
    let everything = Interval::new(Offset(0), Offset(1 << 50));
    let covered = Reader::new(fleet.redis.clone())
        .coverage(&place, everything, None, Reader::MAX_PAGE)
        .await?;
    let key = Keys::new(fleet.redis.prefix().clone()).coverage(&place);
    let query = async |name: &str, arguments: Vec<String>| {
        let mut command = redis::cmd(name);
        command.arg(&key).arg(arguments);
        fleet
            .redis
            .query::<u64>("lose the ledger", Limit::Ordinary, &command)
            .await
    };
    query("DEL", Vec::new()).await?;
    for mut kept in covered.members {
        kept.end = kept.end.min(Offset(from));
        if kept.start < kept.end {
            query("ZADD", vec![kept.start.to_string(), serde_json::to_string(&kept)?]).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_of_each_partition_what_its_ledger_lost() -> Result<()> {
    let mut world = world("plan-lost").await?;
    // Nobody is there to write it again.
    world.fleet.stop().await?;
    let asked = [(0, 10, 200), (1, 100, 600), (2, 0, 400), (3, 50, 500)];
    let everyone = || {
        spec(ReplaySpec {
            ignore_whitelist: true,
            ..replay(&["fund_risk", "fund_basic"], offsets(&asked))
        })
    };
    let (_, whole) = world.plan(everyone()).await?;
    let mut uncovered = [0; 4];
    check_uncovered(&whole, &uncovered)?;
    for (partition, from, lost) in [(1, 0, 500), (3, 300, 200)] {
        lose_from(&world.fleet, partition, from).await?;
        uncovered[usize::from(partition)] = lost;
    }
    let (_, holed) = world.plan(everyone()).await?;
    check_uncovered(&holed, &uncovered)?;
    // Where nothing is known, everything is read.
    let read = holed.partitions.iter().filter(|found| found.partition == 1);
    ensure!(read.map(|found| found.positions).eq([500, 500]), "{holed:?}");
    world.end().await
}

/// Checks how many positions of each partition are not covered, for each of the two data types.
fn check_uncovered(plan: &JobPlan, expected: &[u64; 4]) -> Result<()> {
    ensure!(plan.partitions.len() == 2 * expected.len(), "{plan:?}");
    for found in &plan.partitions {
        let expected = expected[usize::try_from(found.partition)?];
        ensure!(
            found.uncovered_positions == expected,
            "{expected} positions of {} are lost: {found:?}",
            found.partition
        );
    }
    let sum = 2 * expected.iter().sum::<u64>();
    ensure!(plan.uncovered_positions == sum, "{sum} positions are lost: {plan:?}");
    eprintln!("not covered: {expected:?} of each type");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_names_jobs_that_wait_and_jobs_that_run_on_the_same_records() -> Result<()> {
    let mut world = world("plan-overlaps").await?;
    let slow = JobSpec {
        max_records_per_second: 20,
        ..spec(replay(&["fund_risk"], offsets(&[(0, 0, 300)])))
    };
    let same = || spec(replay(&["fund_risk"], offsets(&[(0, 10, 200), (1, 10, 200)])));
    let (token, planned) = world.plan(slow).await?;
    ensure!(planned.task_count == 1, "{planned:?}");
    let all = planned.partitions[0].offsets.context("no positions")?;
    let job = world.create(token).await?.job_id;
    let waits = JobOverlap {
        job_id: job.clone(),
        data_type: "fund_risk".to_owned(),
        topic: world.fleet.topic.clone(),
        partition: 0,
        offsets: Some(all),
        state: JobState::Pending.into(),
    };
    let (_, plan) = world.plan(same()).await?;
    ensure!(plan.overlaps == [waits.clone()], "{plan:?}");

    world.fleet.start_replay_workers(1).await?;
    let is_begun = |job: &Job| {
        let done = job.progress.as_ref().map_or(0, |progress| progress.positions_done);
        job.state() == JobState::Running && done > 0
    };
    Jobs::of(&world.server).until(&job, PATIENCE, is_begun).await?;
    let (_, plan) = world.plan(same()).await?;
    let [found] = plan.overlaps.as_slice() else {
        anyhow::bail!("{plan:?}");
    };
    // What it has done already is none of it.
    let start = found.offsets.map_or(0, |offsets| offsets.start);
    let runs = JobOverlap {
        offsets: Some(OffsetInterval { start, ..all }),
        state: JobState::Running.into(),
        ..waits
    };
    ensure!(
        *found == runs && (all.start + 1..200).contains(&start),
        "{found:?}, not {runs:?}"
    );
    // Of other records and other types it is no matter.
    for other in [
        replay(&["fund_risk"], offsets(&[(1, 0, 300)])),
        replay(&["fund_basic"], offsets(&[(0, 0, 300)])),
    ] {
        let (_, plan) = world.plan(spec(other)).await?;
        ensure!(plan.overlaps.is_empty(), "{plan:?}");
    }
    world.end().await
}
