//! A job's row: locked, looked at, moved along the table of states.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::mysql::{MySqlConnection, MySqlExecutor};

use super::model::JobId;
use super::names::named;
use super::situation::{Situation, Tally};
use super::states::JobState;

const MAX_REASON_CHARACTERS: usize = 40;
const MAX_DETAIL_CHARACTERS: usize = 1_000;

/// A job under lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Locked {
    /// Its state.
    pub(super) state: JobState,
    /// Goes up with each change.
    pub(super) revision: u64,
}

/// Locks a job until the transaction ends: from then on nobody claims a task of it. `None`: there is none.
pub(super) async fn lock(connection: &mut MySqlConnection, id: JobId) -> sqlx::Result<Option<Locked>> {
    let row = sqlx::query(
        "/* lock_job */ SELECT state, revision FROM jobs WHERE job_id = ? AND purged_at IS NULL FOR UPDATE",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Locked {
            state: named(&row, "state")?,
            revision: row.try_get("revision")?,
        })
    })
    .transpose()
}

/// Looks at a job and its tasks at one moment, without a lock. `None`: there is no such job.
pub(super) async fn look(executor: impl MySqlExecutor<'_>, id: JobId) -> sqlx::Result<Option<Situation>> {
    let row = sqlx::query(
        "/* look_at_job */ SELECT j.state, \
         TIMESTAMPDIFF(MICROSECOND, j.asked_at, UTC_TIMESTAMP(3)) AS asked_us, \
         TIMESTAMPDIFF(MICROSECOND, j.unclaimed_since, UTC_TIMESTAMP(3)) AS refused_us, \
         EXISTS (SELECT 1 FROM job_missing m WHERE m.job_id = j.job_id) AS is_missing, \
         COUNT(CASE WHEN t.state = 'PENDING' THEN 1 END) AS pending, \
         COUNT(CASE WHEN t.state = 'RUNNING' AND t.lease_until >= UTC_TIMESTAMP(3) THEN 1 END) AS held, \
         COUNT(CASE WHEN t.state = 'RUNNING' AND t.lease_until < UTC_TIMESTAMP(3) THEN 1 END) AS expired, \
         COUNT(CASE WHEN t.state = 'DONE' THEN 1 END) AS done, \
         COUNT(CASE WHEN t.state = 'FAILED' THEN 1 END) AS failed, \
         COUNT(CASE WHEN t.state = 'CANCELLED' THEN 1 END) AS cancelled \
         FROM jobs j LEFT JOIN tasks t ON t.job_id = j.job_id WHERE j.job_id = ? AND j.purged_at IS NULL \
         GROUP BY j.job_id, j.state, j.asked_at, j.unclaimed_since",
    )
    .bind(id.to_string())
    .fetch_optional(executor)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let count = |column: &str| -> sqlx::Result<u64> { Ok(row.try_get::<i64, _>(column)?.unsigned_abs()) };
    let ago = |column: &str| -> sqlx::Result<Option<Duration>> {
        // The database's clock may be set back: then it was just now.
        let microseconds = row.try_get::<Option<i64>, _>(column)?;
        Ok(microseconds.map(|microseconds| Duration::from_micros(u64::try_from(microseconds).unwrap_or(0))))
    };
    Ok(Some(Situation {
        state: named(&row, "state")?,
        tasks: Tally {
            pending: count("pending")?,
            held: count("held")?,
            expired: count("expired")?,
            done: count("done")?,
            failed: count("failed")?,
            cancelled: count("cancelled")?,
        },
        asked_for: ago("asked_us")?,
        refused_for: ago("refused_us")?,
        is_missing: row.try_get::<i64, _>("is_missing")? == 1,
    }))
}

/// Moves a job that is locked. `reason` and `detail` are cut to what the columns hold.
pub(super) async fn write_state(
    connection: &mut MySqlConnection,
    id: JobId,
    state: JobState,
    reason: &str,
    detail: &str,
) -> sqlx::Result<()> {
    let is_asked = matches!(state, JobState::Pausing | JobState::Cancelling);
    sqlx::query(
        "/* write_job */ UPDATE jobs SET state = ?, reason = ?, detail = ?, revision = revision + 1, \
         asked_at = IF(?, UTC_TIMESTAMP(3), NULL), unclaimed_since = NULL, \
         started_at = IF(state = 'RUNNING', COALESCE(started_at, UTC_TIMESTAMP(3)), started_at), \
         finished_at = IF(?, UTC_TIMESTAMP(3), NULL) WHERE job_id = ?",
    )
    .bind(state.as_str())
    .bind(cut(reason, MAX_REASON_CHARACTERS))
    .bind(cut(detail, MAX_DETAIL_CHARACTERS))
    .bind(is_asked)
    .bind(state.is_final())
    .bind(id.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
