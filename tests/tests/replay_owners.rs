//! Who owns a task when several believe that they do: workers whose leases ran out, or who were frozen and woke up, while
//! live traffic writes newer versions of half of the keys.

#[path = "support/contested.rs"]
mod contested;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use reprise_shared::jobs::{Event, JobId, JobState};
use reprise_tests::feed::Fund;
use reprise_tests::fleet::{Asked, Fleet, PATIENCE};
use reprise_tests::wait::wait_for;

use self::contested::{CONTESTED, FUNDS, funds, options, risks};

const DAYS: u32 = 90;

/// Everything was ingested; then the rows of the funds that nobody else writes were removed.
async fn prepared(name: &str) -> Result<(Fleet, Vec<reprise_shared::jobs::Slice>)> {
    let mut fleet = Fleet::new(name, options(&[("replay.lease", "2s"), ("replay.checkpoint", "200ms")])).await?;
    fleet.seed(&funds()).await?;
    for day in 0..DAYS {
        fleet.publish_records(risks(1..=FUNDS, day, 1)).await?;
    }
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let slices = fleet.slices("fund_risk", 1_500).await?;
    let removed = sqlx::query("DELETE FROM t_ai_risk WHERE fund_code > ?")
        .bind(Fund(CONTESTED).fund_code())
        .execute(&fleet.pool)
        .await?;
    ensure!(
        removed.rows_affected() == u64::from((FUNDS - CONTESTED) * DAYS),
        "{removed:?}"
    );
    Ok((fleet, slices))
}

fn asked() -> Asked {
    Asked {
        per_second: Some(900),
        ..Asked::default()
    }
}

/// Writes newer versions of the contested keys, day by day, until all have some; then of the first days again.
async fn live(fleet: &Fleet, round: u32) -> Result<()> {
    let version = i64::from(2 + round / DAYS);
    fleet
        .publish_records(risks(1..=CONTESTED, round % DAYS, version))
        .await?;
    Ok(())
}

/// The removed rows are back, exactly once; the contested ones were neither inserted nor changed by the job.
async fn check(fleet: &Fleet, job: JobId) -> Result<()> {
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    let (written, read) = (&progress.written, progress.read.read);
    let (removed, all) = (u64::from((FUNDS - CONTESTED) * DAYS), u64::from(FUNDS * DAYS));
    ensure!(
        (written.inserted, written.updated, read) == (removed, 0, all),
        "{written:?} and {read} read, where {removed} of {all} were to be inserted"
    );
    fleet.caught_up(PATIENCE).await?;
    fleet.check_tables(Some(funds()), Vec::new()).await?;
    Ok(())
}

/// Counts the tasks that a worker lost to another owner.
fn lost(fleet: &Fleet, worker: usize) -> usize {
    let log = fleet.whole_log(worker);
    log.lines().filter(|line| line.contains("\"outcome\":\"lost\"")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_two_workers_that_both_believe_they_own_a_task_write_it_once() -> Result<()> {
    // A task is lost when the other worker has nothing else to do at that moment, so leases run out until some were.
    const ENOUGH: usize = 5;
    let (mut fleet, slices) = prepared("owners-both").await?;
    let first = fleet.start_replay_workers(2).await?;
    let job = fleet.replay_slices(slices, &asked()).await?;
    let (mut round, mut expired) = (0, 0);
    wait_for("the job's end", PATIENCE, async || {
        live(&fleet, round).await?;
        round += 1;
        let progress = fleet.progress(job).await?;
        let lost = lost(&fleet, first) + lost(&fleet, first + 1);
        if lost < ENOUGH && progress.tasks_done < progress.tasks {
            // Whoever has a task goes on with it, and somebody else may claim it at once.
            let done =
                sqlx::query("UPDATE tasks SET lease_until = '2020-01-01' WHERE job_id = ? AND state = 'RUNNING'")
                    .bind(job.to_string())
                    .execute(&fleet.pool)
                    .await?;
            expired += usize::try_from(done.rows_affected())?;
        }
        ensure!(progress.tasks_done == progress.tasks, "{progress:?}");
        Ok(())
    })
    .await
    .with_context(|| fleet.log_of(first))?;
    check(&fleet, job).await?;
    let lost = [first, first + 1].map(|worker| lost(&fleet, worker));
    ensure!(
        lost.iter().sum::<usize>() >= 3,
        "{lost:?} tasks were lost\n{}",
        fleet.log_of(first)
    );
    eprintln!("{expired} leases ran out under their owners, who lost {lost:?} tasks; {round} batches of live traffic");
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_frozen_worker_that_wakes_up_while_another_has_its_task_writes_nothing() -> Result<()> {
    const ROUNDS: usize = 4;
    let (mut fleet, slices) = prepared("owners-frozen").await?;
    let first = fleet.start_replay_workers(2).await?;
    let job = fleet.replay_slices(slices, &asked()).await?;
    let mut round = 0;
    for number in 0..ROUNDS {
        let (frozen, other) = (first + number % 2, first + (number + 1) % 2);
        let before = (lost(&fleet, frozen), fleet.progress(job).await?);
        ensure!(before.1.tasks_done < before.1.tasks, "too little to do: {:?}", before.1);
        fleet.job_reads(job, 200, PATIENCE).await?;
        let held = owned(&fleet, job).await?;
        fleet.workers[frozen].signal(Signal::SIGSTOP)?;
        // Its leases run out, and the other one takes its tasks over.
        wait_for("the tasks of the frozen worker to be claimed", PATIENCE, async || {
            live(&fleet, round).await?;
            round += 1;
            let now = owned(&fleet, job).await?;
            let owners: std::collections::BTreeSet<_> = now.iter().map(|task| &task.1).collect();
            let taken = held
                .iter()
                .filter(|task| now.iter().any(|other| other.0 == task.0 && other.1 != task.1));
            ensure!(owners.len() <= 1 && taken.count() > 0, "{held:?}, now {now:?}");
            Ok(())
        })
        .await
        .with_context(|| fleet.log_of(other))?;
        // In every second round the other one lets go before, so that only the frozen one could write.
        let is_paused = number % 2 == 1;
        if is_paused {
            fleet.ask(job, Event::Pause).await?;
            fleet.job_is(job, JobState::Paused, PATIENCE).await?;
        }
        let written = batches(&fleet, job).await?;
        fleet.workers[frozen].signal(Signal::SIGCONT)?;
        wait_for("the frozen worker to find out", PATIENCE, async || {
            live(&fleet, round).await?;
            round += 1;
            ensure!(lost(&fleet, frozen) > before.0, "it has not yet");
            Ok(())
        })
        .await
        .with_context(|| fleet.log_of(frozen))?;
        if is_paused {
            let after = batches(&fleet, job).await?;
            ensure!(after == written, "{} batches came from a former owner", after - written);
            fleet.ask(job, Event::Resume).await?;
        }
    }
    check(&fleet, job).await?;
    let lost = [first, first + 1].map(|worker| lost(&fleet, worker));
    eprintln!("{ROUNDS} times frozen; they lost {lost:?} tasks; {round} batches of live traffic");
    fleet.stop().await
}

/// How many batches of a job were committed.
async fn batches(fleet: &Fleet, job: JobId) -> Result<u64> {
    Ok(
        sqlx::query_scalar("SELECT CAST(SUM(batches) AS UNSIGNED) FROM task_lanes WHERE job_id = ?")
            .bind(job.to_string())
            .fetch_one(&fleet.pool)
            .await?,
    )
}

/// The running tasks of a job with their owners.
async fn owned(fleet: &Fleet, job: JobId) -> Result<Vec<(u32, String)>> {
    Ok(
        sqlx::query_as("SELECT task_number, owner FROM tasks WHERE job_id = ? AND state = 'RUNNING'")
            .bind(job.to_string())
            .fetch_all(&fleet.pool)
            .await?,
    )
}
