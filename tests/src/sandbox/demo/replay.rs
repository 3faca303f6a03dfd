//! The demo's replays: a fund that comes onto the whitelist late is caught up, and damaged rows are found and repaired.

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::replay_spec::Records;
use reprise_proto::v1::{
    AddWhitelistEntriesRequest, CreateJobRequest, Job, JobPlan, JobProgress, JobState, ListMismatchesRequest, Mismatch,
    PlanJobRequest, ReplayCatchUp, ReplayMode, ReplaySpec, WatchJobRequest,
};

use super::{PATIENCE, watch};
use crate::feed::Fund;
use crate::jobs::{everything, job_of, rows_of};
use crate::sandbox::api::Jobs;
use crate::sandbox::screen::{Live, heading, number, say, table};
use crate::sandbox::stack::Stack;

/// Rows whose value is changed behind reprise's back, and rows that are removed.
const DAMAGED: [u32; 2] = [3, 2];

/// Shows both, and says whether they did what they should.
pub(super) async fn run(stack: &Stack, cut: u64, funds: u32) -> Result<bool> {
    let late = Fund(funds / 10 + 1);
    Ok(catch_up(stack, cut, late).await? && repair(stack, Fund(1)).await?)
}

/// Lets a fund through that was filtered since version `cut` of the whitelist, and replays what it missed.
async fn catch_up(stack: &Stack, cut: u64, late: Fund) -> Result<bool> {
    let id = late.performance_id();
    heading(&format!(
        "Fund {id} should have been on the whitelist since version {cut}"
    ));
    let before = rows(stack, late).await?;
    let request = AddWhitelistEntriesRequest {
        ids: vec![id.clone()],
        note: "was forgotten".to_owned(),
        ..AddWhitelistEntriesRequest::default()
    };
    let added = stack.whitelist()?.add_whitelist_entries(request).await?.into_inner();
    let version = added.whitelist.context("no whitelist")?.version;
    watch::applied(stack, version, PATIENCE).await?;
    say(format_args!(
        "  {id} is on it now (version {version}); {} of its valuations are in the table",
        number(before)
    ));
    let work = ReplaySpec {
        records: Some(Records::CatchUp(ReplayCatchUp { since_version: cut })),
        ..everything(&["fund_valuation"], ReplayMode::Live)
    };
    let (job, plan) = replay(stack, work).await?;
    say(format_args!(
        "  the plan: about {} records to look at, in {} tasks, for 1 of {} funds",
        number(plan.estimated_records),
        plan.task_count,
        number(plan.filters.iter().map(|filter| filter.id_count).max().unwrap_or(0))
    ));
    let job = watch_job(stack, job).await?;
    let after = rows(stack, late).await?;
    let counts = rows_of(&job);
    say(format_args!(
        "  {} of its valuations are in the table now; the job says {} inserted, {} updated",
        number(after),
        number(counts.inserted),
        number(counts.updated)
    ));
    // What it missed are rows, or newer values of rows from before it was filtered: that depends on when the list changed.
    let came = counts.inserted + counts.updated;
    let fine = job.state() == JobState::Succeeded && came > 0 && after == before + counts.inserted;
    say(if fine {
        "  yes  exactly what was missing came in"
    } else {
        "  NO   that is not what was missing"
    });
    Ok(fine)
}

/// Damages rows of a fund, has them found, has them repaired, and looks again.
async fn repair(stack: &Stack, fund: Fund) -> Result<bool> {
    heading("Somebody changes rows by hand");
    let (changed, removed) = damage(stack, fund).await?;
    say(format_args!(
        "  {changed} valuations of fund {} were changed and {removed} removed",
        fund.fund_code()
    ));
    let found = verify(stack, fund).await?;
    table(&["kind", "row", "expected and stored"], found.iter().map(line));
    let repaired = finished(stack, ReplayMode::Repair, fund).await?;
    let counts = rows_of(&repaired);
    say(format_args!(
        "  repaired: {} inserted, {} updated",
        number(counts.inserted),
        number(counts.updated)
    ));
    let left = verify(stack, fund).await?;
    // A removed row comes back by its first record, and a later one in another batch changes it again.
    let fine = found.len() as u64 == changed + removed
        && counts.inserted == removed
        && counts.updated >= changed
        && left.is_empty();
    say(if fine {
        "  yes  exactly the damaged rows were found, and exactly they were repaired"
    } else {
        "  NO   those are not the rows that were damaged"
    });
    Ok(fine)
}

/// Compares the fund's rows with what Kafka has, and returns those that differ.
async fn verify(stack: &Stack, fund: Fund) -> Result<Vec<Mismatch>> {
    let job = finished(stack, ReplayMode::Verify, fund).await?;
    let request = ListMismatchesRequest {
        job_id: job.job_id,
        ..ListMismatchesRequest::default()
    };
    Ok(stack.jobs()?.list_mismatches(request).await?.into_inner().mismatches)
}

/// Runs a job over everything that Kafka has of a fund's valuations.
async fn finished(stack: &Stack, mode: ReplayMode, fund: Fund) -> Result<Job> {
    let work = ReplaySpec {
        ids: vec![fund.performance_id()],
        ..everything(&["fund_valuation"], mode)
    };
    let (job, _) = replay(stack, work).await?;
    let job = watch_job(stack, job).await?;
    ensure!(job.state() == JobState::Succeeded, "{}: {}", job.reason, job.detail);
    Ok(job)
}

/// Plans a job and lets it run.
async fn replay(stack: &Stack, work: ReplaySpec) -> Result<(Job, JobPlan)> {
    let mut client: Jobs = stack.jobs()?;
    let request = PlanJobRequest {
        spec: Some(job_of(work)),
    };
    let planned = client.plan_job(request).await?.into_inner();
    let request = CreateJobRequest {
        plan_token: planned.plan_token,
        ..CreateJobRequest::default()
    };
    let job = client.create_job(request).await?.into_inner().job.context("no job")?;
    Ok((job, planned.plan.context("no plan")?))
}

/// Shows a job's progress until it ends.
async fn watch_job(stack: &Stack, job: Job) -> Result<Job> {
    let request = WatchJobRequest {
        job_id: job.job_id.clone(),
    };
    let (mut last, mut live) = (job, Live::new(Some(100)));
    // A connection may end before the job does.
    while last.finish_time.is_none() {
        let mut snapshots = stack.jobs()?.watch_job(request.clone()).await?.into_inner();
        while let Some(snapshot) = snapshots.message().await? {
            last = snapshot.job.context("a snapshot without its job")?;
            if last.finish_time.is_some() {
                break;
            }
            let progress = last.progress.clone().unwrap_or_default();
            live.show(whole(progress.percent), || {
                progress_line(last.state().as_str_name(), &progress)
            });
        }
    }
    let progress = last.progress.clone().unwrap_or_default();
    live.end(progress_line(last.state().as_str_name(), &progress));
    Ok(last)
}

fn progress_line(state: &str, progress: &JobProgress) -> String {
    format!(
        "{}  {}/{} tasks  {} read  {}/s{}",
        state.trim_start_matches("JOB_STATE_").to_lowercase(),
        progress.tasks_done,
        progress.task_count,
        number(progress.records_read),
        number(whole(progress.records_per_second)),
        progress
            .hold_reasons
            .first()
            .map_or_else(String::new, |reason| format!("  held: {reason}"))
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shares and rates are not negative, and only shown"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

fn line(mismatch: &Mismatch) -> Vec<String> {
    let kind = mismatch.kind().as_str_name().trim_start_matches("MISMATCH_KIND_");
    vec![
        kind.to_lowercase(),
        mismatch.key_json.clone(),
        mismatch.differences_json.clone(),
    ]
}

async fn rows(stack: &Stack, fund: Fund) -> Result<u64> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t_fund_valuation WHERE fund_code = ?")
        .bind(fund.fund_code())
        .fetch_one(&stack.pool)
        .await?;
    Ok(u64::try_from(count)?)
}

/// Changes and removes rows; returns how many.
async fn damage(stack: &Stack, fund: Fund) -> Result<(u64, u64)> {
    let change = "UPDATE t_fund_valuation SET unit_nav = unit_nav + 1 WHERE fund_code = ? ORDER BY nav_date LIMIT ?";
    let remove = "DELETE FROM t_fund_valuation WHERE fund_code = ? ORDER BY nav_date DESC LIMIT ?";
    let mut done = [0, 0];
    for ((statement, count), done) in [change, remove].into_iter().zip(DAMAGED).zip(&mut done) {
        let damaged = sqlx::query(statement).bind(fund.fund_code()).bind(count);
        *done = damaged.execute(&stack.pool).await?.rows_affected();
    }
    Ok((done[0], done[1]))
}
