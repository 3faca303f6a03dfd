//! How far a job is.

use sqlx::mysql::{MySqlPool, MySqlRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::counts::{SUMS, write_counts};
use super::model::{JobId, ReadCounts, WriteCounts};
use super::task_row;
use crate::mysql::positions::topic_partition;
use crate::position::{Offset, TopicPartition};

/// At most so many reasons are shown.
const MOST_HOLD_REASONS: u32 = 10;

/// How far a job is, over all of its tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What was read.
    pub read: ReadCounts,
    /// What became of rows.
    pub written: WriteCounts,
    /// How many tasks it has.
    pub tasks: u32,
    /// How many of them are done.
    pub tasks_done: u32,
    /// How many tasks run under a lease.
    pub tasks_running: u32,
    /// The positions of all slices.
    pub positions: u64,
    /// Those that have their outcome. In a job that cleans first, cleaning does not count.
    pub positions_done: u64,
    /// Why running tasks are held back, each reason once, at most 10.
    pub hold_reasons: Vec<String>,
    /// By topic and partition.
    pub partitions: Vec<PartitionProgress>,
}

/// How far a job is in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionProgress {
    /// Which one.
    pub topic_partition: TopicPartition,
    /// How many tasks it has there.
    pub tasks: u32,
    /// How many of them are done.
    pub tasks_done: u32,
    /// The positions of the slices there.
    pub positions: u64,
    /// Those that have their outcome.
    pub positions_done: u64,
    /// The first position that still has to be done; `None`: all are.
    pub position: Option<Offset>,
    /// The position after the last one.
    pub end: Offset,
    /// Records that were read.
    pub records_read: u64,
}

/// Reads how far a job is. What is read after the job was seen in a final state does not change any more. A job that
/// does not exist has no tasks.
pub async fn progress(pool: &MySqlPool, job: JobId) -> sqlx::Result<Progress> {
    let rows = sqlx::query(
        "/* job_progress */ SELECT topic, partition_number, COUNT(*) AS tasks, \
         COUNT(CASE WHEN state = 'DONE' THEN 1 END) AS tasks_done, \
         COUNT(CASE WHEN state = 'RUNNING' AND lease_until >= UTC_TIMESTAMP(3) THEN 1 END) AS tasks_running, \
         CAST(SUM(end_position - start_position) AS UNSIGNED) AS positions, \
         CAST(SUM(IF(phase = 'CLEAN', 0, checkpoint - start_position)) AS UNSIGNED) AS positions_done, \
         MIN(CASE WHEN state <> 'DONE' THEN IF(phase = 'CLEAN', start_position, checkpoint) END) AS position, \
         MAX(end_position) AS last_end, \
         CAST(SUM(records_read) AS UNSIGNED) AS records_read, \
         CAST(SUM(records_filtered) AS UNSIGNED) AS records_filtered, \
         CAST(SUM(records_skipped) AS UNSIGNED) AS records_skipped, \
         CAST(SUM(bytes_read) AS UNSIGNED) AS bytes_read \
         FROM tasks WHERE job_id = ? GROUP BY topic, partition_number ORDER BY topic, partition_number",
    )
    .bind(job.to_string())
    .fetch_all(pool)
    .await?;
    let sql = format!("/* rows_of_job */ SELECT {SUMS} FROM task_lanes WHERE job_id = ?");
    let written = sqlx::query(AssertSqlSafe(sql))
        .bind(job.to_string())
        .fetch_one(pool)
        .await?;
    let hold_reasons = sqlx::query_scalar(
        "/* hold_reasons */ SELECT DISTINCT hold_reason FROM tasks \
         WHERE job_id = ? AND state = 'RUNNING' AND hold_reason <> '' ORDER BY hold_reason LIMIT ?",
    )
    .bind(job.to_string())
    .bind(MOST_HOLD_REASONS)
    .fetch_all(pool)
    .await?;
    let mut progress = Progress {
        written: write_counts(&written)?,
        hold_reasons,
        ..Progress::default()
    };
    for row in &rows {
        add(&mut progress, row)?;
    }
    Ok(progress)
}

fn add(progress: &mut Progress, row: &MySqlRow) -> sqlx::Result<()> {
    let count =
        |column: &str| -> sqlx::Result<u32> { Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(u32::MAX)) };
    let partition = PartitionProgress {
        topic_partition: topic_partition(row)?,
        tasks: count("tasks")?,
        tasks_done: count("tasks_done")?,
        positions: row.try_get("positions")?,
        positions_done: row.try_get("positions_done")?,
        position: row.try_get::<Option<u64>, _>("position")?.map(Offset),
        end: Offset(row.try_get("last_end")?),
        records_read: row.try_get("records_read")?,
    };
    let read = task_row::read_counts(row)?;
    progress.read.read += read.read;
    progress.read.filtered += read.filtered;
    progress.read.skipped += read.skipped;
    progress.read.bytes += read.bytes;
    progress.tasks += partition.tasks;
    progress.tasks_done += partition.tasks_done;
    progress.tasks_running += count("tasks_running")?;
    progress.positions += partition.positions;
    progress.positions_done += partition.positions_done;
    progress.partitions.push(partition);
    Ok(())
}
