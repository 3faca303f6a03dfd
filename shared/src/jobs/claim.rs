//! Looks for a task to run.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::mysql::{MySqlConnection, MySqlPool};

use super::candidates::{self, Candidate};
use super::failure::Failure;
use super::model::{Claim, JobId};
use super::names::named;
use super::ownership::Judgement;
use super::settle;
use super::states::JobState;
use super::task_row::{self, Choice};
use crate::mysql::Database;

/// Who claims, and how.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Names the worker's process, at most 64 ASCII characters; unique, also between two starts.
    pub id: String,
    /// How long a claim or a renewal holds, by the database's clock.
    pub lease: Duration,
    /// A task that was claimed this often without its checkpoint moving fails, and its job with it.
    pub max_attempts: u32,
}

/// Claims a task of the job that comes first: by priority, then by the number of workers that are at it, then by age.
/// `None`: there is nothing to claim now.
///
/// `hashes` returns what the worker's own catalog says about some data types
/// ([`Catalog::hash_of`](crate::catalog::Catalog::hash_of)), or `None` when it does not have them all; jobs that were
/// planned with another one are passed over.
///
/// The claim waits for batches that a former owner has open, for as long as the pool's sessions wait for a row; a task
/// whose batch takes longer is left for later. Whatever the former owner commits afterwards is fenced. A future that is
/// dropped may leave a task claimed: then its lease runs out.
pub async fn claim(
    database: &Database,
    worker: &Worker,
    hashes: impl Fn(&[String]) -> Option<String> + Send + Sync,
) -> sqlx::Result<Option<Claim>> {
    for candidate in candidates::find(database.pool()).await? {
        let is_ours = hashes(&candidate.data_types).is_some_and(|hash| hash == candidate.catalog_hash);
        if candidate.is_refused == is_ours {
            note_refusal(database.pool(), candidate.job, !is_ours).await?;
        }
        if !is_ours {
            continue;
        }
        if let Some(claim) = claim_of(database, worker, &candidate).await? {
            return Ok(Some(claim));
        }
    }
    Ok(None)
}

/// What became of a look into one job.
enum Outcome {
    Nothing,
    Claimed { claim: Box<Claim>, is_first: bool },
    GaveUp,
}

async fn claim_of(database: &Database, worker: &Worker, candidate: &Candidate) -> sqlx::Result<Option<Claim>> {
    let job = candidate.job;
    let (worker, lease) = (worker.clone(), worker.lease);
    let outcome = database.tx("claim_task", move |connection| {
        let worker = worker.clone();
        Box::pin(async move { Ok::<_, Failure>(attempt(connection, job, &worker, lease).await?) })
    });
    match outcome.await {
        Ok(Outcome::Nothing) => Ok(None),
        Ok(Outcome::Claimed { claim, is_first }) => {
            if is_first {
                begin(database.pool(), job).await?;
            }
            Ok(Some(*claim))
        }
        Ok(Outcome::GaveUp) => settle::settle(database, job).await.map(|_| None),
        Err(failure) => failure.or_busy().map(|()| None),
    }
}

async fn attempt(
    connection: &mut MySqlConnection,
    job: JobId,
    worker: &Worker,
    lease: Duration,
) -> sqlx::Result<Outcome> {
    // Shared, so that workers claim beside each other; whoever pauses or ends the job waits for them.
    let row = sqlx::query(
        "/* claimable_job */ SELECT state, kind, mode, clean_first, allow_partial, max_records_per_second FROM jobs \
         WHERE job_id = ? AND purged_at IS NULL LOCK IN SHARE MODE",
    )
    .bind(job.to_string())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(Outcome::Nothing) };
    let state: JobState = named(&row, "state")?;
    if !state.is_claimable() {
        return Ok(Outcome::Nothing);
    }
    // Once a task has left this phase it never comes back, so what is read here without a lock stays right.
    let is_cleaning = row.try_get("clean_first")? && is_cleaning(connection, job).await?;
    let choice = Choice::FirstFree {
        only_clean: is_cleaning,
    };
    let Some(mut task) = task_row::lock(connection, job, choice).await?.pop() else {
        return Ok(Outcome::Nothing);
    };
    let before = task.ownership.epoch;
    match task.ownership.judge(state, is_cleaning, task.now, worker.max_attempts) {
        Judgement::Leave => return Ok(Outcome::Nothing),
        Judgement::GiveUp => {
            task.ownership.give_up();
            task_row::write(connection, task.id, before, &task.ownership).await?;
            return Ok(Outcome::GaveUp);
        }
        Judgement::Claim => {}
    }
    task.ownership.claim(&worker.id, lease_end(task.now, lease));
    // The row is locked, so the checkpoint that was read stays the newest one: a former owner that writes another
    // waits, and then finds its epoch gone. What its open batches commit meanwhile is done before this returns.
    task_row::write(connection, task.id, before, &task.ownership).await?;
    let lanes: i64 =
        sqlx::query_scalar("/* lanes_of_task */ SELECT COUNT(*) FROM task_lanes WHERE job_id = ? AND task_number = ?")
            .bind(job.to_string())
            .bind(task.id.number)
            .fetch_one(connection)
            .await?;
    let claim = Claim {
        task: task.id,
        slice: task.slice,
        kind: named(&row, "kind")?,
        mode: named(&row, "mode")?,
        clean_first: row.try_get("clean_first")?,
        allow_partial: row.try_get("allow_partial")?,
        phase: task.ownership.phase,
        checkpoint: task.ownership.checkpoint,
        read: task.ownership.read,
        epoch: task.ownership.epoch,
        attempts: task.ownership.attempts,
        lanes: u8::try_from(lanes).unwrap_or(u8::MAX),
        max_records_per_second: row.try_get("max_records_per_second")?,
    };
    Ok(Outcome::Claimed {
        claim: Box::new(claim),
        is_first: state == JobState::Pending,
    })
}

async fn is_cleaning(connection: &mut MySqlConnection, job: JobId) -> sqlx::Result<bool> {
    let found: Option<u32> = sqlx::query_scalar(
        "/* task_that_cleans */ SELECT task_number FROM tasks WHERE job_id = ? AND phase = 'CLEAN' LIMIT 1",
    )
    .bind(job.to_string())
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Marks a job as running. Settling would do the same a little later, so a row that is busy is no matter.
async fn begin(pool: &MySqlPool, job: JobId) -> sqlx::Result<()> {
    let begun = sqlx::query(
        "/* begin_job */ UPDATE jobs SET state = 'RUNNING', revision = revision + 1, unclaimed_since = NULL, \
         started_at = COALESCE(started_at, UTC_TIMESTAMP(3)) WHERE job_id = ? AND state = 'PENDING'",
    )
    .bind(job.to_string())
    .execute(pool)
    .await;
    unless_busy(begun)
}

/// Puts on record since when only workers with another catalog looked at a job, or that one with its own did.
async fn note_refusal(pool: &MySqlPool, job: JobId, is_refused: bool) -> sqlx::Result<()> {
    let noted = sqlx::query(
        "/* note_refusal */ UPDATE jobs SET unclaimed_since = IF(?, COALESCE(unclaimed_since, UTC_TIMESTAMP(3)), NULL) \
         WHERE job_id = ? AND state IN ('PENDING', 'RUNNING')",
    )
    .bind(is_refused)
    .bind(job.to_string())
    .execute(pool)
    .await;
    unless_busy(noted)
}

fn unless_busy<T>(result: sqlx::Result<T>) -> sqlx::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => Failure::from(error).or_busy(),
    }
}

pub(super) fn lease_end(now: Timestamp, lease: Duration) -> Timestamp {
    now.checked_add(lease).unwrap_or(Timestamp::MAX)
}
