//! Deferred intervals: records of a stopped type that were passed over and are owed to a replay.

use sqlx::Row;
use sqlx::mysql::MySqlPool;

use crate::position::{Offset, TopicId, TopicPartition};

/// One deferred interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The stopped data type.
    pub data_type: String,
    /// The partition.
    pub partition: u16,
    /// The first position.
    pub start: Offset,
    /// The position after the last record that was passed over so far.
    pub end: Offset,
    /// Whether it still grows.
    pub open: bool,
    /// Why the type was stopped.
    pub reason: String,
}

/// Makes sure that an open interval exists which reaches from `start` or earlier to `end` or later.
///
/// Idempotent, and right whoever owned the partition before: an open interval keeps its earlier start; after it was
/// closed a new one begins at `start`.
pub async fn cover(
    pool: &MySqlPool,
    data_type: &str,
    partition: &TopicPartition,
    topic_id: &TopicId,
    start: Offset,
    end: Offset,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "/* cover_deferred */ INSERT INTO deferred \
         (data_type, topic, topic_id, partition_number, start_position, end_position, reason, open_marker, opened_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, 1, UTC_TIMESTAMP(3)) ON DUPLICATE KEY UPDATE \
         start_position = LEAST(start_position, VALUES(start_position)), \
         end_position = GREATEST(end_position, VALUES(end_position))",
    )
    .bind(data_type)
    .bind(partition.topic.as_str())
    .bind(topic_id.as_str())
    .bind(partition.partition.0)
    .bind(start.0)
    .bind(end.0.max(start.0))
    .bind(reason)
    .execute(pool)
    .await?;
    Ok(())
}

/// Lists the intervals of one topic, by type, partition and start.
pub async fn intervals(pool: &MySqlPool, topic: &str) -> sqlx::Result<Vec<Interval>> {
    let rows = sqlx::query(
        "/* deferred */ SELECT data_type, partition_number, start_position, end_position, open_marker, reason \
         FROM deferred WHERE topic = ? ORDER BY data_type, partition_number, start_position",
    )
    .bind(topic)
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Interval {
                data_type: row.try_get("data_type")?,
                partition: row.try_get("partition_number")?,
                start: Offset(row.try_get("start_position")?),
                end: Offset(row.try_get("end_position")?),
                open: row.try_get::<Option<bool>, _>("open_marker")?.unwrap_or(false),
                reason: row.try_get("reason")?,
            })
        })
        .collect()
}
