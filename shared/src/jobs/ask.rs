//! What people ask of a job. Everything here happens inside the caller's transaction, beside its audit event.

use sqlx::mysql::MySqlConnection;

use super::job_row;
use super::model::JobId;
use super::read::{self, Job};
use super::settle;
use super::states::{Event, JobState};
use super::task_row::{self, Choice};

/// Why nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such job.
    NotFound,
    /// It was changed since the caller read it.
    Revision {
        /// Its revision.
        current: u64,
    },
    /// Its state does not allow that.
    State {
        /// Its state.
        current: JobState,
    },
}

/// Asks for a move along the table of states: [`Event::Pause`], [`Event::Resume`], [`Event::Cancel`] or
/// [`Event::Retry`]. With a `revision` only if the job still has that one.
///
/// A pause or a cancellation is through at once when no worker runs a task. Otherwise [`settle`](super::settle()) brings
/// it through when they let go, or after [`TIME_TO_LET_GO`](super::TIME_TO_LET_GO).
///
/// The caller's transaction may wait for one that claims a task of the same job.
pub async fn ask(
    connection: &mut MySqlConnection,
    id: JobId,
    event: Event,
    revision: Option<u64>,
) -> sqlx::Result<Result<Job, Refused>> {
    let current = match lock(connection, id, revision).await? {
        Ok(locked) => locked.state,
        Err(refused) => return Ok(Err(refused)),
    };
    let is_asked_by_people = match event {
        Event::Pause | Event::Resume | Event::Cancel | Event::Retry => true,
        Event::Claimed | Event::LetGo | Event::Done | Event::DonePartly | Event::Fail => false,
    };
    let Some(next) = current.after(event).filter(|_| is_asked_by_people) else {
        return Ok(Err(Refused::State { current }));
    };
    if event == Event::Retry {
        task_row::retry_all(connection, id).await?;
    }
    job_row::write_state(connection, id, next, "", "").await?;
    // Fencing may have to wait for batches; whoever settles next does that, not the caller.
    if task_row::lock(connection, id, Choice::Running).await?.is_empty() {
        settle::under_lock(connection, id, next).await?;
    }
    found(connection, id).await
}

/// Changes priority (higher goes first) or rate limit (records a second; `Some(None)`: no limit) of a job that did not
/// end. Workers learn of it at their next checkpoint.
pub async fn update(
    connection: &mut MySqlConnection,
    id: JobId,
    revision: Option<u64>,
    priority: Option<i16>,
    max_records_per_second: Option<Option<u64>>,
) -> sqlx::Result<Result<Job, Refused>> {
    match lock(connection, id, revision).await? {
        Ok(locked) if locked.state.is_final() => return Ok(Err(Refused::State { current: locked.state })),
        Ok(_) => {}
        Err(refused) => return Ok(Err(refused)),
    }
    sqlx::query(
        "/* update_job */ UPDATE jobs SET priority = COALESCE(?, priority), \
         max_records_per_second = IF(?, ?, max_records_per_second), revision = revision + 1 WHERE job_id = ?",
    )
    .bind(priority)
    .bind(max_records_per_second.is_some())
    .bind(max_records_per_second.flatten())
    .bind(id.to_string())
    .execute(&mut *connection)
    .await?;
    found(connection, id).await
}

async fn lock(
    connection: &mut MySqlConnection,
    id: JobId,
    revision: Option<u64>,
) -> sqlx::Result<Result<job_row::Locked, Refused>> {
    let Some(locked) = job_row::lock(connection, id).await? else {
        return Ok(Err(Refused::NotFound));
    };
    Ok(match revision {
        Some(revision) if revision != locked.revision => Err(Refused::Revision {
            current: locked.revision,
        }),
        _ => Ok(locked),
    })
}

async fn found(connection: &mut MySqlConnection, id: JobId) -> sqlx::Result<Result<Job, Refused>> {
    Ok(read::job(connection, id).await?.ok_or(Refused::NotFound))
}
