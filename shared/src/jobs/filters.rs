//! The lists of ids that a job's tasks let through.

use sqlx::Row as _;
use sqlx::mysql::{MySqlConnection, MySqlPool};

use super::model::JobId;

/// How many ids one row holds: 128 KiB at most, with room for escapes.
const IDS_IN_A_ROW: usize = 1_000;
/// How many rows are read at a time.
const ROWS_AT_A_TIME: u32 = 16;

/// Reads one of a job's lists, in the order in which it was stored. An empty one lets nothing through.
pub async fn filter(pool: &MySqlPool, job: JobId, filter: u32) -> sqlx::Result<Vec<String>> {
    let mut ids: Vec<String> = Vec::new();
    let mut next_chunk = 0_u32;
    loop {
        let rows = sqlx::query(
            "/* job_filter */ SELECT chunk, ids FROM job_filters WHERE job_id = ? AND filter = ? AND chunk >= ? \
             ORDER BY chunk LIMIT ?",
        )
        .bind(job.to_string())
        .bind(filter)
        .bind(next_chunk)
        .bind(ROWS_AT_A_TIME)
        .fetch_all(pool)
        .await?;
        for row in &rows {
            let chunk: Vec<String> = serde_json::from_str(&row.try_get::<String, _>("ids")?)
                .map_err(|error| sqlx::Error::Decode(error.into()))?;
            ids.extend(chunk);
            next_chunk = row.try_get::<u32, _>("chunk")? + 1;
        }
        if rows.len() < ROWS_AT_A_TIME as usize {
            return Ok(ids);
        }
    }
}

/// Stores a list under its number.
pub(super) async fn insert(
    connection: &mut MySqlConnection,
    job: JobId,
    filter: u32,
    ids: &[String],
) -> sqlx::Result<()> {
    for (chunk, ids) in (0_u32..).zip(ids.chunks(IDS_IN_A_ROW)) {
        let ids = serde_json::to_string(ids).map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query("/* insert_job_filter */ INSERT INTO job_filters (job_id, filter, chunk, ids) VALUES (?, ?, ?, ?)")
            .bind(job.to_string())
            .bind(filter)
            .bind(chunk)
            .bind(ids)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
