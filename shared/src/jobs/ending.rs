//! An owner's last word about its task. Each raises the epoch of task and lanes in the same transaction, which waits
//! for batches that are still open.

use sqlx::mysql::MySqlConnection;

use super::model::{Claim, ReadCounts};
use super::ownership::{Ending, Ownership};
use super::task_row;
use crate::mysql::Database;
use crate::position::Offset;

/// Gives a task back: in good order (the claim does not count as an attempt), or because of an error that another
/// attempt may overcome. `position` and `read` are those of a checkpoint. Does nothing when the task is not the
/// caller's any more.
pub async fn release(
    database: &Database,
    claim: &Claim,
    position: Offset,
    read: &ReadCounts,
    error: Option<&str>,
) -> sqlx::Result<()> {
    let (claim, read, error) = (claim.clone(), *read, error.map(str::to_owned));
    let released = database.tx("release_task", move |connection| {
        let (claim, error) = (claim.clone(), error.clone());
        Box::pin(async move {
            end(connection, &claim, |task| {
                task.release(claim.epoch, position, read, error.as_deref())
            })
            .await
        })
    });
    released.await.map(drop)
}

/// Ends a task's phase after its last position: it is done; or, in a job that cleans first, it goes back to its start
/// and waits for a worker that writes, which is let in when all tasks of the job are clean. The claim is over in either
/// case. `false`: the task was not the caller's any
/// more. [`settle`](super::settle()) is to be called afterwards.
///
/// # Errors
/// [`sqlx::Error::InvalidArgument`] when `position` lies before the slice's end: then work would be left out.
pub async fn finish(database: &Database, claim: &Claim, position: Offset, read: &ReadCounts) -> sqlx::Result<bool> {
    if position < claim.slice.end {
        return Err(sqlx::Error::InvalidArgument(format!(
            "a task that ends at {} cannot be finished at {position}",
            claim.slice.end
        )));
    }
    let (claim, read) = (claim.clone(), *read);
    let finished = database.tx("finish_task", move |connection| {
        let claim = claim.clone();
        Box::pin(async move { end(connection, &claim, |task| task.finish(claim.epoch, claim.phase, read)).await })
    });
    finished.await
}

/// Fails a task that cannot go on: no other attempt would help. `reason` is one word in capitals. `false`: the task was
/// not the caller's any more. [`settle`](super::settle()) is to be called afterwards; it fails the job with this reason.
pub async fn fail_task(database: &Database, claim: &Claim, reason: &str, detail: &str) -> sqlx::Result<bool> {
    let (claim, reason, detail) = (claim.clone(), reason.to_owned(), detail.to_owned());
    let failed = database.tx("fail_task", move |connection| {
        let (claim, reason, detail) = (claim.clone(), reason.clone(), detail.clone());
        Box::pin(async move { end(connection, &claim, |task| task.fail(claim.epoch, &reason, &detail)).await })
    });
    failed.await
}

async fn end(
    connection: &mut MySqlConnection,
    claim: &Claim,
    change: impl FnOnce(&mut Ownership) -> Ending,
) -> sqlx::Result<bool> {
    let Some(mut task) = task_row::lock_one(connection, claim.task).await? else {
        return Ok(false);
    };
    let before = task.ownership.epoch;
    match change(&mut task.ownership) {
        Ending::Changed => {
            task_row::write(connection, task.id, before, &task.ownership).await?;
            Ok(true)
        }
        Ending::Known => Ok(true),
        Ending::Lost => Ok(false),
    }
}
