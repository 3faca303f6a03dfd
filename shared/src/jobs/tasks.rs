//! Tasks, for those who ask.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::mysql::MySqlPool;
use sqlx::{AssertSqlSafe, Row as _};

use super::counts::{SUMS, write_counts};
use super::model::{JobId, Phase, ReadCounts, Slice, TaskId, WriteCounts};
use super::names::named;
use super::states::TaskState;
use super::task_row::{self, time};
use crate::position::Offset;

/// A task as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which one.
    pub id: TaskId,
    /// What it reads.
    pub slice: Slice,
    /// Its state.
    pub state: TaskState,
    /// Where it is in a job that cleans first.
    pub phase: Phase,
    /// Everything before it has its outcome.
    pub checkpoint: Offset,
    /// The worker that runs it; empty: nobody.
    pub owner: String,
    /// Until when, by the database's clock; another worker may take it over then.
    pub lease_until: Option<Timestamp>,
    /// Claims since the checkpoint moved last.
    pub attempts: u32,
    /// Why it failed, in one word; empty otherwise.
    pub reason: String,
    /// The error of the last attempt that failed.
    pub error: String,
    /// Why it is held back; empty: it is not.
    pub hold_reason: String,
    /// What was read up to the checkpoint.
    pub read: ReadCounts,
    /// What became of rows, up to the last batch that was committed.
    pub written: WriteCounts,
    /// When the first worker began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// Lists the tasks of a job after a number, by number; at most `limit`.
pub async fn tasks(pool: &MySqlPool, job: JobId, after: Option<u32>, limit: u32) -> sqlx::Result<Vec<Task>> {
    let from = after.map_or(0, |after| after.saturating_add(1));
    let sql = format!(
        "/* list_tasks */ SELECT {} FROM tasks WHERE job_id = ? AND task_number >= ? ORDER BY task_number LIMIT ?",
        task_row::COLUMNS
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(job.to_string())
        .bind(from)
        .bind(limit)
        .fetch_all(pool)
        .await?;
    let Some(last) = rows.last() else { return Ok(Vec::new()) };
    let mut written = written(pool, job, from, last.try_get("task_number")?).await?;
    rows.iter()
        .map(|row| {
            let number = row.try_get("task_number")?;
            Ok(Task {
                id: TaskId { job, number },
                slice: task_row::slice(row)?,
                state: named(row, "state")?,
                phase: named(row, "phase")?,
                checkpoint: Offset(row.try_get("checkpoint")?),
                owner: row.try_get("owner")?,
                lease_until: time(row, "lease_ms")?,
                attempts: row.try_get("attempts")?,
                reason: row.try_get("reason")?,
                error: row.try_get("error")?,
                hold_reason: row.try_get("hold_reason")?,
                read: task_row::read_counts(row)?,
                written: written.remove(&number).unwrap_or_default(),
                started_at: time(row, "started_ms")?,
                finished_at: time(row, "finished_ms")?,
            })
        })
        .collect()
}

async fn written(pool: &MySqlPool, job: JobId, first: u32, last: u32) -> sqlx::Result<HashMap<u32, WriteCounts>> {
    let sql = format!(
        "/* rows_of_tasks */ SELECT task_number, {SUMS} FROM task_lanes \
         WHERE job_id = ? AND task_number BETWEEN ? AND ? GROUP BY task_number"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(job.to_string())
        .bind(first)
        .bind(last)
        .fetch_all(pool)
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("task_number")?, write_counts(row)?)))
        .collect()
}
