//! Moves jobs to where their tasks brought them.
//!
//! Anybody may settle any job at any time and any number of times: the decision is the pure [`Situation::due`], taken
//! again under the job's lock. So nothing depends on the process that caused it.

use sqlx::Row as _;
use sqlx::mysql::{MySqlConnection, MySqlPool};

use super::failure::Failure;
use super::job_row;
use super::model::JobId;
use super::reasons;
use super::situation::{CATALOG_PATIENCE, fate};
use super::states::{Event, JobState, TaskState};
use super::task_row::{self, Choice};
use crate::mysql::Database;
use crate::mysql::positions::topic_partition;

/// Brings a job to where its tasks and the time say it is, and returns its state.
///
/// Costs one read where nothing is to be done. Otherwise it may wait for as long as the pool's sessions wait for a
/// row, for batches of those that it fences; when that is not long enough, the job is left as it is for the next call.
///
/// # Errors
/// [`sqlx::Error::RowNotFound`] when there is no such job.
pub async fn settle(database: &Database, id: JobId) -> sqlx::Result<JobState> {
    let seen = job_row::look(database.pool(), id)
        .await?
        .ok_or(sqlx::Error::RowNotFound)?;
    if seen.due().is_none() {
        return Ok(seen.state);
    }
    let settled = database.tx("settle_job", move |connection| {
        Box::pin(async move {
            let locked = job_row::lock(connection, id).await?.ok_or(sqlx::Error::RowNotFound)?;
            Ok::<_, Failure>(under_lock(connection, id, locked.state).await?)
        })
    });
    match settled.await {
        Ok(state) => Ok(state),
        Err(failure) => failure.or_busy().map(|()| seen.state),
    }
}

/// A job that may have to be settled; also where a list of them goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// The job.
    pub id: JobId,
    /// Somebody waits for it: it is PAUSING or CANCELLING.
    pub is_asked: bool,
}

/// Lists jobs that may have to be settled, those that somebody waits for first, and then by id; at most `limit`, those
/// that come after `after`.
pub async fn unsettled(pool: &MySqlPool, after: Option<Unsettled>, limit: u32) -> sqlx::Result<Vec<Unsettled>> {
    let (is_asked, id) = after.map_or((true, String::new()), |after| (after.is_asked, after.id.to_string()));
    let rows = sqlx::query(
        "/* unsettled_jobs */ SELECT job_id, state IN ('PAUSING', 'CANCELLING') AS is_asked FROM jobs \
         WHERE state IN ('PENDING', 'RUNNING', 'PAUSING', 'CANCELLING') \
         HAVING is_asked < ? OR (is_asked = ? AND job_id > ?) ORDER BY is_asked DESC, job_id LIMIT ?",
    )
    .bind(is_asked)
    .bind(is_asked)
    .bind(id)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Unsettled {
                id: parse(row.try_get("job_id")?)?,
                is_asked: row.try_get::<i64, _>("is_asked")? == 1,
            })
        })
        .collect()
}

/// Fails a job that cannot go on, and fences whoever works on it. A job that ended already stays as it is; one that
/// was being cancelled is cancelled. Returns the state that it has now.
///
/// # Errors
/// [`sqlx::Error::RowNotFound`] when there is no such job.
pub async fn fail(database: &Database, id: JobId, reason: &str, detail: &str) -> sqlx::Result<JobState> {
    let (reason, detail) = (reason.to_owned(), detail.to_owned());
    let failed = database.tx("fail_job", move |connection| {
        let (reason, detail) = (reason.clone(), detail.clone());
        Box::pin(async move {
            let locked = job_row::lock(connection, id).await?.ok_or(sqlx::Error::RowNotFound)?;
            match locked.state.after(Event::Fail) {
                Some(next) => {
                    enter(connection, id, next, &reason, &detail).await?;
                    Ok(next)
                }
                None => Ok(locked.state),
            }
        })
    });
    failed.await
}

/// Settles a job that the caller locked.
pub(super) async fn under_lock(
    connection: &mut MySqlConnection,
    id: JobId,
    mut state: JobState,
) -> sqlx::Result<JobState> {
    // With the job locked nobody claims, and with its running tasks locked nobody ends one: what is seen now stays.
    task_row::lock(connection, id, Choice::Running).await?;
    while let Some(event) = job_row::look(&mut *connection, id).await?.and_then(|seen| seen.due()) {
        let Some(next) = state.after(event) else { break };
        let (reason, detail) = match next {
            JobState::Failed => why(connection, id).await?,
            _ => Default::default(),
        };
        enter(connection, id, next, &reason, &detail).await?;
        state = next;
    }
    Ok(state)
}

/// Moves a job that is locked to its next state, and its tasks with it.
async fn enter(
    connection: &mut MySqlConnection,
    id: JobId,
    next: JobState,
    reason: &str,
    detail: &str,
) -> sqlx::Result<()> {
    if fate(next, TaskState::Running).is_some() {
        for mut task in task_row::lock(connection, id, Choice::Running).await? {
            if let Some(state) = fate(next, task.ownership.state) {
                let before = task.ownership.epoch;
                task.ownership.fence(state);
                task_row::write(connection, task.id, before, &task.ownership).await?;
            }
        }
    }
    if let Some(state) = fate(next, TaskState::Pending) {
        sqlx::query(
            "/* end_waiting_tasks */ UPDATE tasks SET state = ?, finished_at = UTC_TIMESTAMP(3) \
             WHERE job_id = ? AND state = 'PENDING'",
        )
        .bind(state.as_str())
        .bind(id.to_string())
        .execute(&mut *connection)
        .await?;
    }
    job_row::write_state(connection, id, next, reason, detail).await
}

/// Says why a job fails: its first task that failed, or nobody who could claim one.
async fn why(connection: &mut MySqlConnection, id: JobId) -> sqlx::Result<(String, String)> {
    let row = sqlx::query(
        "/* failed_task */ SELECT task_number, data_type, topic, partition_number, start_position, end_position, \
         reason, error FROM tasks WHERE job_id = ? AND state = 'FAILED' ORDER BY task_number LIMIT 1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        let detail = format!(
            "for {} s only workers with another catalog asked for its tasks; give the workers the catalog that the job \
             was planned with, or plan it again",
            CATALOG_PATIENCE.as_secs()
        );
        return Ok((reasons::CATALOG_CHANGED.to_owned(), detail));
    };
    let slice = format!(
        "task {} ({} {}, [{}, {}))",
        row.try_get::<u32, _>("task_number")?,
        row.try_get::<String, _>("data_type")?,
        topic_partition(&row)?,
        row.try_get::<u64, _>("start_position")?,
        row.try_get::<u64, _>("end_position")?,
    );
    let error: String = row.try_get("error")?;
    Ok((row.try_get("reason")?, format!("{slice}: {error}")))
}

/// Reads a stored id.
pub(super) fn parse(id: &str) -> sqlx::Result<JobId> {
    JobId::parse(id).ok_or_else(|| sqlx::Error::Decode(format!("{id:?} is no job's id").into()))
}
