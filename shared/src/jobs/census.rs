//! How many jobs there are, and how much work waits: for those who watch and those who scale.

use sqlx::Row as _;
use sqlx::mysql::MySqlPool;

use super::names::named;
use super::states::JobState;

/// Jobs by state, and the tasks of those that workers may claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// How many jobs are in which state; states without one are left out.
    pub jobs: Vec<(JobState, u64)>,
    /// Tasks that a worker could claim now.
    pub waiting: u64,
    /// Tasks that run under a lease.
    pub running: u64,
}

/// Counts jobs and tasks. Reads every task of the jobs that are PENDING or RUNNING.
pub async fn census(pool: &MySqlPool) -> sqlx::Result<Census> {
    let jobs = sqlx::query(
        "/* jobs_by_state */ SELECT state, COUNT(*) AS jobs FROM jobs WHERE purged_at IS NULL GROUP BY state",
    )
    .fetch_all(pool)
    .await?;
    let tasks = sqlx::query(
        "/* tasks_by_state */ SELECT \
         COUNT(CASE WHEN t.state = 'PENDING' OR t.lease_until < UTC_TIMESTAMP(3) THEN 1 END) AS waiting, \
         COUNT(CASE WHEN t.state = 'RUNNING' AND t.lease_until >= UTC_TIMESTAMP(3) THEN 1 END) AS running \
         FROM jobs j JOIN tasks t ON t.job_id = j.job_id \
         WHERE j.state IN ('PENDING', 'RUNNING') AND j.purged_at IS NULL AND t.state IN ('PENDING', 'RUNNING')",
    )
    .fetch_one(pool)
    .await?;
    let count = |row: &sqlx::mysql::MySqlRow, column: &str| -> sqlx::Result<u64> {
        Ok(row.try_get::<i64, _>(column)?.unsigned_abs())
    };
    Ok(Census {
        jobs: jobs
            .iter()
            .map(|row| Ok((named(row, "state")?, count(row, "jobs")?)))
            .collect::<sqlx::Result<_>>()?,
        waiting: count(&tasks, "waiting")?,
        running: count(&tasks, "running")?,
    })
}
