//! What the owner of a task says while it runs it: that it lives, and how far it is.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::mysql::{MySqlConnection, MySqlPool};

use super::model::{Claim, ReadCounts, Wanted};
use super::names::named;
use super::states::JobState;
use crate::position::Offset;

const MAX_HOLD_REASON_CHARACTERS: usize = 200;

/// Renews the lease from now on. `false`: the task is not the caller's any more.
///
/// A lease that ran out is renewed, too, as long as nobody else claimed the task.
pub async fn renew(
    connection: &mut MySqlConnection,
    claim: &Claim,
    owner: &str,
    lease: Duration,
) -> sqlx::Result<bool> {
    let renewed = sqlx::query(
        "/* renew_lease */ UPDATE tasks SET lease_until = DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) \
         WHERE job_id = ? AND task_number = ? AND epoch = ? AND state = 'RUNNING' AND owner = ?",
    )
    .bind(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX))
    .bind(claim.task.job.to_string())
    .bind(claim.task.number)
    .bind(claim.epoch.0)
    .bind(owner)
    .execute(connection)
    .await?;
    Ok(renewed.rows_affected() > 0)
}

/// Writes how far the task is, and returns what its owner is to do.
///
/// Everything before `position` has its outcome. `read` are the totals from the task's start to there, so a repeated
/// call changes nothing; a position behind the stored one changes only the hold reason (empty: the task is not held
/// back).
pub async fn checkpoint(
    pool: &MySqlPool,
    claim: &Claim,
    position: Offset,
    read: &ReadCounts,
    hold_reason: &str,
) -> sqlx::Result<Wanted> {
    // `Ownership::advance` in one statement; assigned from left to right, so the checkpoint comes last.
    let moved = sqlx::query(
        "/* checkpoint */ UPDATE tasks SET attempts = IF(checkpoint < ?, 0, attempts), \
         records_read = IF(checkpoint <= ?, ?, records_read), \
         records_filtered = IF(checkpoint <= ?, ?, records_filtered), \
         records_skipped = IF(checkpoint <= ?, ?, records_skipped), \
         bytes_read = IF(checkpoint <= ?, ?, bytes_read), hold_reason = ?, checkpoint = GREATEST(checkpoint, ?) \
         WHERE job_id = ? AND task_number = ? AND epoch = ? AND state = 'RUNNING'",
    )
    .bind(position.0)
    .bind(position.0)
    .bind(read.read)
    .bind(position.0)
    .bind(read.filtered)
    .bind(position.0)
    .bind(read.skipped)
    .bind(position.0)
    .bind(read.bytes)
    .bind(hold_reason.chars().take(MAX_HOLD_REASON_CHARACTERS).collect::<String>())
    .bind(position.0)
    .bind(claim.task.job.to_string())
    .bind(claim.task.number)
    .bind(claim.epoch.0)
    .execute(pool)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(Wanted::Lost);
    }
    let job = claim.task.job.to_string();
    let row = sqlx::query("/* wanted_state */ SELECT state, max_records_per_second FROM jobs WHERE job_id = ?")
        .bind(&job)
        .fetch_optional(pool)
        .await?;
    let Some(row) = row else { return Ok(Wanted::Lost) };
    let limit: Option<u64> = row.try_get("max_records_per_second")?;
    let running = match limit {
        None => 1,
        Some(_) => sqlx::query_scalar(
            "/* sharing_tasks */ SELECT COUNT(*) FROM tasks \
             WHERE job_id = ? AND state = 'RUNNING' AND lease_until >= UTC_TIMESTAMP(3)",
        )
        .bind(&job)
        .fetch_one(pool)
        .await
        .map(i64::unsigned_abs)?,
    };
    Ok(wanted(named(&row, "state")?, limit, running))
}

/// Decides what an owner is to do, given its job's state and limit, and how many tasks share that.
pub(super) fn wanted(job: JobState, limit: Option<u64>, running: u64) -> Wanted {
    match job {
        JobState::Pending | JobState::Running => Wanted::Run {
            max_records_per_second: limit.map(|limit| (limit / running.max(1)).max(1)),
        },
        JobState::Pausing | JobState::Cancelling => Wanted::LetGo,
        JobState::Paused | JobState::Succeeded | JobState::Partial | JobState::Failed | JobState::Cancelled => {
            Wanted::Lost
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_share_their_jobs_limit_and_never_stand_still() {
        let share = |limit, running| wanted(JobState::Running, limit, running);
        let run = |limit| Wanted::Run {
            max_records_per_second: limit,
        };
        assert_eq!(share(None, 3), run(None));
        assert_eq!(share(Some(900), 3), run(Some(300)));
        assert_eq!(share(Some(2), 3), run(Some(1)));
        assert_eq!(share(Some(900), 0), run(Some(900)));
    }

    #[test]
    fn owners_go_on_let_go_or_stop_at_once() {
        let by_state: Vec<_> = JobState::ALL.iter().map(|state| wanted(*state, None, 1)).collect();
        let run = Wanted::Run {
            max_records_per_second: None,
        };
        let expected = [
            run,
            run,
            Wanted::LetGo,
            Wanted::Lost,
            Wanted::LetGo,
            Wanted::Lost,
            Wanted::Lost,
            Wanted::Lost,
            Wanted::Lost,
        ];
        assert_eq!(by_state, expected);
    }
}
