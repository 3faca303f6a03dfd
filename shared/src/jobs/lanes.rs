//! The fence: each batch of a task updates its own lane's row at its own epoch first.
//!
//! A batch locks no row of the task or the job, so batches never wait for each other, for a checkpoint or for somebody
//! who looks for work.

use sqlx::mysql::MySqlConnection;

use super::model::{TaskId, WriteCounts};
use crate::leases::Epoch;

/// Begins a batch, as the first statement of its transaction. `false`: the task has another owner or none, so nothing
/// may be written, and the transaction is to be rolled back.
pub async fn enter(connection: &mut MySqlConnection, task: TaskId, lane: u8, epoch: Epoch) -> sqlx::Result<bool> {
    let entered = sqlx::query(
        "/* enter_lane */ UPDATE task_lanes SET batches = batches + 1 \
         WHERE job_id = ? AND task_number = ? AND lane = ? AND epoch = ?",
    )
    .bind(task.job.to_string())
    .bind(task.number)
    .bind(lane)
    .bind(epoch.0)
    .execute(connection)
    .await?;
    Ok(entered.rows_affected() > 0)
}

/// Adds what the batch did, as the last statement of a transaction that [`enter`] began.
pub async fn count(connection: &mut MySqlConnection, task: TaskId, lane: u8, counts: &WriteCounts) -> sqlx::Result<()> {
    if *counts == WriteCounts::default() {
        return Ok(());
    }
    sqlx::query(
        "/* count_rows */ UPDATE task_lanes SET rows_inserted = rows_inserted + ?, rows_updated = rows_updated + ?, \
         rows_unchanged = rows_unchanged + ?, rows_stale = rows_stale + ?, rows_superseded = rows_superseded + ?, \
         rows_dead_lettered = rows_dead_lettered + ?, rows_deleted = rows_deleted + ?, \
         rows_missing = rows_missing + ?, rows_different = rows_different + ?, rows_older = rows_older + ? \
         WHERE job_id = ? AND task_number = ? AND lane = ?",
    )
    .bind(counts.inserted)
    .bind(counts.updated)
    .bind(counts.unchanged)
    .bind(counts.stale)
    .bind(counts.superseded)
    .bind(counts.dead_lettered)
    .bind(counts.deleted)
    .bind(counts.missing)
    .bind(counts.different)
    .bind(counts.older)
    .bind(task.job.to_string())
    .bind(task.number)
    .bind(lane)
    .execute(connection)
    .await?;
    Ok(())
}

/// Raises the fence of all lanes of a task. Waits for batches that are open on them.
pub(super) async fn fence(connection: &mut MySqlConnection, task: TaskId, epoch: Epoch) -> sqlx::Result<()> {
    sqlx::query("/* fence_lanes */ UPDATE task_lanes SET epoch = ? WHERE job_id = ? AND task_number = ?")
        .bind(epoch.0)
        .bind(task.job.to_string())
        .bind(task.number)
        .execute(connection)
        .await?;
    Ok(())
}
