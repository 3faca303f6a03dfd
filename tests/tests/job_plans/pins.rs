//! What a plan stands on: the log as it is, the whitelist, and the other jobs.

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::*;
use reprise_tests::control::refused;
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
