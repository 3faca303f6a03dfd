//! Removes jobs that ended long ago.
//!
//! A job is marked first: from then on nobody finds it, so nobody can try it again while its rows go. They go in steps,
//! each a transaction of its own; whoever purges next goes on where a step was the last one.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlPool;

use super::model::JobId;
use super::settle;
use crate::mysql::Database;

/// How many rows one step removes at most.
const ROWS_AT_A_TIME: u32 = 1_000;
/// What belongs to a job, apart from its own row.
const TABLES: [&str; 5] = ["job_mismatches", "job_filters", "job_missing", "task_lanes", "tasks"];

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Whole jobs.
    pub jobs: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Transactions that this took.
    pub steps: u64,
}

/// Removes jobs that ended at least `older_than` ago, by the database's clock; at most `limit` of them. Several
/// processes may do this at once.
pub async fn purge_finished(database: &Database, older_than: Duration, limit: u32) -> sqlx::Result<Purged> {
    let pool = database.pool();
    mark(pool, older_than, limit).await?;
    let mut purged = Purged::default();
    for job in marked(pool, limit).await? {
        for table in TABLES {
            loop {
                let sql = format!("/* purge_job */ DELETE FROM {table} WHERE job_id = ? LIMIT ?");
                let removed = remove(pool, &sql, job, ROWS_AT_A_TIME).await?;
                purged.rows += removed;
                purged.steps += 1;
                if removed < u64::from(ROWS_AT_A_TIME) {
                    break;
                }
            }
        }
        let removed = remove(
            pool,
            "/* purge_job */ DELETE FROM jobs WHERE job_id = ? LIMIT ?",
            job,
            1,
        )
        .await?;
        purged.jobs += removed;
        purged.rows += removed;
        purged.steps += 1;
    }
    Ok(purged)
}

async fn mark(pool: &MySqlPool, older_than: Duration, limit: u32) -> sqlx::Result<()> {
    let microseconds = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX);
    let ids: Vec<String> = sqlx::query_scalar(
        "/* ended_long_ago */ SELECT job_id FROM jobs WHERE purged_at IS NULL \
         AND finished_at <= DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) ORDER BY finished_at LIMIT ?",
    )
    .bind(microseconds)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    // By the primary key, as all who lock a job; it may have been tried again since.
    for id in ids {
        sqlx::query(
            "/* mark_for_purge */ UPDATE jobs SET purged_at = UTC_TIMESTAMP(3) WHERE job_id = ? \
             AND purged_at IS NULL AND finished_at <= DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND)",
        )
        .bind(id)
        .bind(microseconds)
        .execute(pool)
        .await?;
    }
    Ok(())
}

async fn marked(pool: &MySqlPool, limit: u32) -> sqlx::Result<Vec<JobId>> {
    let ids: Vec<String> = sqlx::query_scalar(
        "/* marked_for_purge */ SELECT job_id FROM jobs WHERE purged_at IS NOT NULL ORDER BY purged_at LIMIT ?",
    )
    .bind(limit)
    .fetch_all(pool)
    .await?;
    ids.iter().map(|id| settle::parse(id)).collect()
}

async fn remove(pool: &MySqlPool, sql: &str, job: JobId, rows: u32) -> sqlx::Result<u64> {
    let removed = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .bind(job.to_string())
        .bind(rows)
        .execute(pool)
        .await?;
    Ok(removed.rows_affected())
}
