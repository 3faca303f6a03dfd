//! Letters that a job settles: their records go through the pipeline again, and this time they become rows.

use std::ops::Range;

use jiff::Timestamp;
use sqlx::mysql::{MySqlArguments, MySqlExecutor};
use sqlx::{Arguments, AssertSqlSafe};

use crate::position::{Offset, Partition, TopicId};

/// Returns the offsets of records of one type with open letters (`RETRYING` or `PARKED`), ascending, at most `limit`.
pub async fn open_offsets(
    executor: impl MySqlExecutor<'_>,
    data_type: &str,
    (topic_id, partition): (&TopicId, Partition),
    offsets: Range<Offset>,
    limit: u32,
) -> Result<Vec<Offset>, sqlx::Error> {
    let found: Vec<u64> = sqlx::query_scalar(
        "/* open_letters_of_slice */ SELECT DISTINCT record_offset FROM dead_letters WHERE data_type = ? \
         AND topic_id = ? AND partition_number = ? AND record_offset >= ? AND record_offset < ? \
         AND state IN ('RETRYING', 'PARKED') ORDER BY record_offset LIMIT ?",
    )
    .bind(data_type)
    .bind(topic_id.as_str())
    .bind(partition.0)
    .bind(offsets.start.0)
    .bind(offsets.end.0)
    .bind(limit)
    .fetch_all(executor)
    .await?;
    Ok(found.into_iter().map(Offset).collect())
}

/// Moves the open letters of records that a job processed to `REDRIVEN`; returns how many. Letters that the job
/// itself stored stay open: some rows of those records cannot be written still. At most 1,000 offsets a call are
/// sensible.
pub async fn close_processed(
    executor: impl MySqlExecutor<'_>,
    job_id: &str,
    data_type: &str,
    (topic_id, partition): (&TopicId, Partition),
    offsets: &[Offset],
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    if offsets.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "/* close_covered_letters */ UPDATE dead_letters SET state = 'REDRIVEN', job_id = ?, updated_at = ? \
         WHERE data_type = ? AND topic_id = ? AND partition_number = ? AND record_offset IN ({}) \
         AND state IN ('RETRYING', 'PARKED') AND job_id <> ?",
        vec!["?"; offsets.len()].join(",")
    );
    let mut arguments = MySqlArguments::default();
    let mut add = |text: &str| arguments.add(text).map_err(sqlx::Error::Encode);
    add(job_id)?;
    add(&now.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string())?;
    add(data_type)?;
    add(topic_id.as_str())?;
    arguments.add(partition.0).map_err(sqlx::Error::Encode)?;
    for offset in offsets {
        arguments.add(offset.0).map_err(sqlx::Error::Encode)?;
    }
    arguments.add(job_id).map_err(sqlx::Error::Encode)?;
    let closed = sqlx::query_with(AssertSqlSafe(sql), arguments)
        .execute(executor)
        .await?;
    Ok(closed.rows_affected())
}
