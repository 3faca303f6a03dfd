//! A task's row: locked, changed by the pure [`Ownership`], written.

use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use super::lanes;
use super::model::{JobId, ReadCounts, Slice, TaskId};
use super::names::named;
use super::ownership::Ownership;
use crate::leases::Epoch;
use crate::milliseconds;
use crate::mysql::positions::topic_partition;
use crate::mysql::times;
use crate::position::{Offset, TopicGeneration, TopicId};

/// What is selected of a task, with the database's time.
pub(super) const COLUMNS: &str = concat!(
    "task_number, data_type, topic, topic_id, generation, partition_number, start_position, end_position, filter, ",
    milliseconds!("record_time_from"),
    " AS record_from_ms, ",
    milliseconds!("record_time_to"),
    " AS record_to_ms, state, phase, checkpoint, epoch, owner, ",
    milliseconds!("lease_until"),
    " AS lease_ms, attempts, reason, error, hold_reason, records_read, records_filtered, records_skipped, bytes_read, ",
    milliseconds!("started_at"),
    " AS started_ms, ",
    milliseconds!("finished_at"),
    " AS finished_ms, ",
    milliseconds!("UTC_TIMESTAMP(3)"),
    " AS now_ms"
);

/// A task under lock.
#[derive(Clone, Debug)]
pub(super) struct Locked {
    /// Which one.
    pub(super) id: TaskId,
    /// Whose it is.
    pub(super) ownership: Ownership,
    /// What it reads.
    pub(super) slice: Slice,
    /// The database's time.
    pub(super) now: Timestamp,
}

/// Which tasks are locked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    /// This one.
    One(u32),
    /// The first that may be claimed and that nobody else is at.
    FirstFree {
        /// None that writes.
        only_clean: bool,
    },
    /// All that an owner runs, or left without a word.
    Running,
}

macro_rules! free {
    () => {
        "task_number >= ? AND (state = 'PENDING' OR (state = 'RUNNING' AND lease_until < UTC_TIMESTAMP(3)))"
    };
}

macro_rules! first {
    () => {
        " ORDER BY task_number LIMIT 1 FOR UPDATE SKIP LOCKED"
    };
}

/// Locks tasks of a job until the transaction ends. All who lock several do it along the primary key.
pub(super) async fn lock(connection: &mut MySqlConnection, job: JobId, choice: Choice) -> sqlx::Result<Vec<Locked>> {
    let (condition, number) = match choice {
        Choice::One(number) => ("task_number = ? FOR UPDATE", number),
        Choice::FirstFree { only_clean: false } => (concat!(free!(), first!()), 0),
        Choice::FirstFree { only_clean: true } => (concat!(free!(), " AND phase = 'CLEAN'", first!()), 0),
        Choice::Running => (
            "task_number >= ? AND state = 'RUNNING' ORDER BY task_number FOR UPDATE",
            0,
        ),
    };
    let sql =
        format!("/* lock_tasks */ SELECT {COLUMNS} FROM tasks FORCE INDEX (PRIMARY) WHERE job_id = ? AND {condition}");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(job.to_string())
        .bind(number)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Locked {
                id: TaskId {
                    job,
                    number: row.try_get("task_number")?,
                },
                ownership: ownership(row)?,
                slice: slice(row)?,
                now: times::from_milliseconds(row.try_get("now_ms")?),
            })
        })
        .collect()
}

/// Locks one task; `None`: there is none.
pub(super) async fn lock_one(connection: &mut MySqlConnection, task: TaskId) -> sqlx::Result<Option<Locked>> {
    Ok(lock(connection, task.job, Choice::One(task.number)).await?.pop())
}

/// Writes a task that is locked. When its epoch went up, so do those of its lanes, which waits for batches that are
/// open on them.
pub(super) async fn write(
    connection: &mut MySqlConnection,
    task: TaskId,
    before: Epoch,
    after: &Ownership,
) -> sqlx::Result<()> {
    sqlx::query(
        "/* write_task */ UPDATE tasks SET state = ?, phase = ?, checkpoint = ?, epoch = ?, owner = ?, \
         lease_until = ?, attempts = ?, reason = ?, error = ?, hold_reason = '', records_read = ?, \
         records_filtered = ?, records_skipped = ?, bytes_read = ?, \
         started_at = IF(state = 'RUNNING', COALESCE(started_at, UTC_TIMESTAMP(3)), started_at), \
         finished_at = IF(state IN ('DONE', 'FAILED', 'CANCELLED'), UTC_TIMESTAMP(3), NULL) \
         WHERE job_id = ? AND task_number = ?",
    )
    .bind(after.state.as_str())
    .bind(after.phase.as_str())
    .bind(after.checkpoint.0)
    .bind(after.epoch.0)
    .bind(&after.owner)
    .bind(after.lease_until.map(times::text))
    .bind(after.attempts)
    .bind(&after.reason)
    .bind(&after.error)
    .bind(after.read.read)
    .bind(after.read.filtered)
    .bind(after.read.skipped)
    .bind(after.read.bytes)
    .bind(task.job.to_string())
    .bind(task.number)
    .execute(&mut *connection)
    .await?;
    if after.epoch != before {
        lanes::fence(connection, task, after.epoch).await?;
    }
    Ok(())
}

/// Makes all tasks of a job that are not done wait for a worker again, with all their attempts. The job is locked, and
/// ended, so nobody runs one.
pub(super) async fn retry_all(connection: &mut MySqlConnection, job: JobId) -> sqlx::Result<()> {
    sqlx::query(
        "/* retry_tasks */ UPDATE tasks SET state = 'PENDING', attempts = 0, reason = '', error = '', \
         finished_at = NULL WHERE job_id = ? AND state IN ('PENDING', 'FAILED', 'CANCELLED')",
    )
    .bind(job.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads the counts of what was read.
pub(super) fn read_counts(row: &MySqlRow) -> sqlx::Result<ReadCounts> {
    Ok(ReadCounts {
        read: row.try_get("records_read")?,
        filtered: row.try_get("records_filtered")?,
        skipped: row.try_get("records_skipped")?,
        bytes: row.try_get("bytes_read")?,
    })
}

/// Reads whose a task is.
pub(super) fn ownership(row: &MySqlRow) -> sqlx::Result<Ownership> {
    Ok(Ownership {
        state: named(row, "state")?,
        phase: named(row, "phase")?,
        start: Offset(row.try_get("start_position")?),
        end: Offset(row.try_get("end_position")?),
        checkpoint: Offset(row.try_get("checkpoint")?),
        epoch: Epoch(row.try_get("epoch")?),
        owner: row.try_get("owner")?,
        lease_until: time(row, "lease_ms")?,
        attempts: row.try_get("attempts")?,
        read: read_counts(row)?,
        reason: row.try_get("reason")?,
        error: row.try_get("error")?,
    })
}

/// Reads what a task reads.
pub(super) fn slice(row: &MySqlRow) -> sqlx::Result<Slice> {
    Ok(Slice {
        data_type: row.try_get("data_type")?,
        topic_partition: topic_partition(row)?,
        topic_id: TopicId::new(row.try_get::<String, _>("topic_id")?),
        generation: TopicGeneration(row.try_get("generation")?),
        start: Offset(row.try_get("start_position")?),
        end: Offset(row.try_get("end_position")?),
        filter: row.try_get("filter")?,
        record_time_from: time(row, "record_from_ms")?,
        record_time_to: time(row, "record_to_ms")?,
    })
}

/// Reads a time that was selected as milliseconds.
pub(super) fn time(row: &MySqlRow, column: &str) -> sqlx::Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(times::from_milliseconds))
}
