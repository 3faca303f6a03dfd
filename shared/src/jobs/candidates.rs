//! Which jobs a worker tries first.

use std::cmp::Reverse;
use std::collections::HashMap;

use sqlx::mysql::{MySqlPool, MySqlRow};
use sqlx::{QueryBuilder, Row as _};

use super::model::JobId;
use super::settle;

/// At most so many jobs are looked at for one claim.
const MOST_CANDIDATES: u32 = 100;

/// A job that has a task to claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Which one.
    pub(super) job: JobId,
    /// Higher goes first.
    pub(super) priority: i16,
    /// How many of its tasks run under a lease.
    pub(super) running: u64,
    /// When it was created, in milliseconds since 1970.
    pub(super) created_ms: i64,
    /// Its data types.
    pub(super) data_types: Vec<String>,
    /// What a worker's catalog has to say about them.
    pub(super) catalog_hash: String,
    /// Whether it is on record that only workers with another catalog looked at it.
    pub(super) is_refused: bool,
}

/// Puts jobs in the order in which they are tried: the higher priority first; among equals the one that fewer workers
/// are at, so that a small job need not wait for a large one; then the older one.
pub(super) fn in_order(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by_key(|one| (Reverse(one.priority), one.running, one.created_ms, one.job));
    candidates
}

/// Finds jobs that have a task to claim, in order.
pub(super) async fn find(pool: &MySqlPool) -> sqlx::Result<Vec<Candidate>> {
    let rows = sqlx::query(concat!(
        "/* claim_candidates */ SELECT job_id, priority, ",
        crate::milliseconds!("created_at"),
        " AS created_ms, data_types, catalog_hash, unclaimed_since IS NOT NULL AS is_refused FROM jobs j \
         WHERE state IN ('PENDING', 'RUNNING') AND purged_at IS NULL AND EXISTS (SELECT 1 FROM tasks t \
         WHERE t.job_id = j.job_id \
         AND (t.state = 'PENDING' OR (t.state = 'RUNNING' AND t.lease_until < UTC_TIMESTAMP(3)))) \
         ORDER BY priority DESC, created_at, job_id LIMIT ?"
    ))
    .bind(MOST_CANDIDATES)
    .fetch_all(pool)
    .await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut candidates = rows.iter().map(candidate).collect::<sqlx::Result<Vec<_>>>()?;
    let running = running(pool, &candidates).await?;
    for one in &mut candidates {
        one.running = running.get(&one.job).copied().unwrap_or(0);
    }
    Ok(in_order(candidates))
}

async fn running(pool: &MySqlPool, candidates: &[Candidate]) -> sqlx::Result<HashMap<JobId, u64>> {
    let mut query = QueryBuilder::new(
        "/* running_tasks */ SELECT job_id, COUNT(*) AS running FROM tasks \
         WHERE state = 'RUNNING' AND lease_until >= UTC_TIMESTAMP(3) AND job_id IN (",
    );
    let mut ids = query.separated(", ");
    for one in candidates {
        ids.push_bind(one.job.to_string());
    }
    query.push(") GROUP BY job_id");
    let rows = query.build().persistent(false).fetch_all(pool).await?;
    rows.iter()
        .map(|row| {
            let running: i64 = row.try_get("running")?;
            Ok((settle::parse(row.try_get("job_id")?)?, running.unsigned_abs()))
        })
        .collect()
}

fn candidate(row: &MySqlRow) -> sqlx::Result<Candidate> {
    let data_types: String = row.try_get("data_types")?;
    Ok(Candidate {
        job: settle::parse(row.try_get("job_id")?)?,
        priority: row.try_get("priority")?,
        running: 0,
        created_ms: row.try_get("created_ms")?,
        data_types: serde_json::from_str(&data_types).map_err(|error| sqlx::Error::Decode(error.into()))?,
        catalog_hash: row.try_get("catalog_hash")?,
        is_refused: row.try_get::<i64, _>("is_refused")? == 1,
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn candidate(id: u128, priority: i16, running: u64, created_ms: i64) -> Candidate {
        Candidate {
            job: JobId(Uuid::from_u128(id)),
            priority,
            running,
            created_ms,
            data_types: Vec::new(),
            catalog_hash: String::new(),
            is_refused: false,
        }
    }

    fn order(candidates: Vec<Candidate>) -> Vec<u128> {
        in_order(candidates).iter().map(|one| one.job.0.as_u128()).collect()
    }

    #[test]
    fn priority_comes_first_then_the_job_with_fewer_workers_then_the_older_one() {
        let candidates = vec![
            candidate(1, 0, 0, 10),
            candidate(2, 0, 3, 1),
            candidate(3, 5, 9, 20),
            candidate(4, 0, 0, 5),
            candidate(5, -1, 0, 0),
            candidate(6, 0, 0, 5),
        ];
        assert_eq!(order(candidates), [3, 4, 6, 1, 2, 5]);
    }

    #[test]
    fn jobs_of_different_size_get_the_same_number_of_workers() {
        // Nothing about a job's size is looked at: eight workers that come one after the other are shared out.
        let mut running = [0, 0];
        for _ in 0..8 {
            let jobs = vec![candidate(0, 0, running[0], 0), candidate(1, 0, running[1], 1)];
            running[order(jobs)[0] as usize] += 1;
        }
        assert_eq!(running, [4, 4]);
    }
}
