//! Removes jobs that ended long ago.
//!
//! A job is marked first: from then on nobody finds it, so nobody can try it again while its rows go. They go in steps,
//! each a transaction of its own; whoever purges next goes on where a step was the last one. What an ISOLATED job wrote
//! goes with it, before its own rows: a job whose rows cannot be removed is still there to tell of them.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::mysql::MySqlPool;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{JobId, Mode};
use super::names::named;
use super::settle;
use crate::isolated;
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

/// Removes jobs that ended at least `older_than` ago, by the database's clock; at most `limit` of them. `isolated`: the
/// tables that hold rows of ISOLATED jobs. Several processes may do this at once.
///
/// # Errors
/// The first that was met. A job that cannot be removed keeps no other from being.
pub async fn purge_finished(
    database: &Database,
    older_than: Duration,
    limit: u32,
    isolated: &BTreeSet<String>,
) -> sqlx::Result<Purged> {
    let pool = database.pool();
    mark(pool, older_than, limit).await?;
    let mut purged = Purged::default();
    let mut failed = None;
    for (job, mode) in marked(pool, limit).await? {
        let removed = match mode {
            Mode::Isolated => purge_one(pool, job, isolated, &mut purged).await,
            Mode::Live | Mode::Overwrite | Mode::Verify | Mode::Repair => {
                purge_one(pool, job, &BTreeSet::new(), &mut purged).await
            }
        };
        if let Err(error) = removed {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(purged), Err)
}

/// Removes what belongs to one job, and then the job.
async fn purge_one(pool: &MySqlPool, job: JobId, isolated: &BTreeSet<String>, purged: &mut Purged) -> sqlx::Result<()> {
    let id = job.to_string();
    for table in isolated {
        loop {
            let removed = isolated::remove_rows(pool, table, &id, ROWS_AT_A_TIME).await?;
            if purged.took(removed) {
                break;
            }
        }
    }
    for table in TABLES {
        let sql = format!("/* purge_job */ DELETE FROM {table} WHERE job_id = ? LIMIT ?");
        loop {
            let removed = remove(pool, &sql, &id, ROWS_AT_A_TIME).await?;
            if purged.took(removed) {
                break;
            }
        }
    }
    let sql = "/* purge_job */ DELETE FROM jobs WHERE job_id = ? LIMIT ?";
    let removed = remove(pool, sql, &id, 1).await?;
    purged.took(removed);
    purged.jobs += removed;
    Ok(())
}

impl Purged {
    /// Counts a step; tells whether it was the last one of its table.
    fn took(&mut self, rows: u64) -> bool {
        self.rows += rows;
        self.steps += 1;
        rows < u64::from(ROWS_AT_A_TIME)
    }
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

async fn marked(pool: &MySqlPool, limit: u32) -> sqlx::Result<Vec<(JobId, Mode)>> {
    let rows = sqlx::query(
        "/* marked_for_purge */ SELECT job_id, mode FROM jobs WHERE purged_at IS NOT NULL ORDER BY purged_at LIMIT ?",
    )
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| Ok((settle::parse(row.try_get("job_id")?)?, named(row, "mode")?)))
        .collect()
}

async fn remove(pool: &MySqlPool, sql: &str, job: &str, rows: u32) -> sqlx::Result<u64> {
    let removed = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .bind(job)
        .bind(rows)
        .execute(pool)
        .await?;
    Ok(removed.rows_affected())
}
