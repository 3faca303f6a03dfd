//! Deferred intervals: records of a stopped type that were passed over and are owed to a replay.

use sqlx::Row;
use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlRow};

use crate::mysql::positions::topic_partition;
use crate::position::{Offset, TopicId, TopicName, TopicPartition};

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

/// An interval that still grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Names it.
    pub id: u64,
    /// The data type.
    pub data_type: String,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: TopicPartition,
    /// The position after the last record that was passed over so far.
    pub end: Offset,
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

/// Lists the intervals that are owed of one incarnation of a topic, by partition, start and type; at most `most`.
pub async fn owed(pool: &MySqlPool, topic: &TopicName, topic_id: &TopicId, most: u32) -> sqlx::Result<Vec<Interval>> {
    let rows = sqlx::query(
        "/* owed */ SELECT data_type, partition_number, start_position, end_position, open_marker, reason \
         FROM deferred WHERE topic = ? AND topic_id = ? AND settled_at IS NULL \
         ORDER BY partition_number, start_position, data_type LIMIT ?",
    )
    .bind(topic.as_str())
    .bind(topic_id.as_str())
    .bind(most)
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

/// Lists the intervals that still grow, of all types and partitions; at most `most`.
pub async fn open(pool: &MySqlPool, most: u32) -> sqlx::Result<Vec<Open>> {
    let rows = sqlx::query(
        "/* open_deferred */ SELECT id, data_type, topic, topic_id, partition_number, end_position FROM deferred \
         WHERE open_marker = 1 ORDER BY id LIMIT ?",
    )
    .bind(most)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Open {
                id: row.try_get("id")?,
                data_type: row.try_get("data_type")?,
                topic_id: TopicId::new(row.try_get::<String, _>("topic_id")?),
                partition: topic_partition(row)?,
                end: Offset(row.try_get("end_position")?),
            })
        })
        .collect()
}

/// Closes an interval, if it still ends at `end`: from then on it does not grow. One that holds nothing is removed.
pub async fn close(pool: &MySqlPool, id: u64, end: Offset) -> sqlx::Result<()> {
    sqlx::query(
        "/* close_deferred */ UPDATE deferred SET open_marker = NULL, closed_at = UTC_TIMESTAMP(3) \
         WHERE id = ? AND end_position = ? AND open_marker = 1",
    )
    .bind(id)
    .bind(end.0)
    .execute(pool)
    .await?;
    sqlx::query("/* drop_empty_deferred */ DELETE FROM deferred WHERE id = ? AND start_position = end_position AND open_marker IS NULL")
        .bind(id)
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
    rows.iter().map(read).collect()
}

/// Finds an interval of a type that is still owed and covers an offset of this incarnation of a topic: the last one that
/// was opened.
pub async fn covering(
    pool: &MySqlPool,
    data_type: &str,
    partition: &TopicPartition,
    topic_id: &TopicId,
    offset: Offset,
) -> sqlx::Result<Option<Interval>> {
    let row = sqlx::query(
        "/* deferred_at */ SELECT data_type, partition_number, start_position, end_position, open_marker, reason \
         FROM deferred WHERE data_type = ? AND topic = ? AND topic_id = ? AND partition_number = ? \
         AND start_position <= ? AND end_position > ? AND settled_at IS NULL ORDER BY id DESC LIMIT 1",
    )
    .bind(data_type)
    .bind(partition.topic.as_str())
    .bind(topic_id.as_str())
    .bind(partition.partition.0)
    .bind(offset.0)
    .bind(offset.0)
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(read).transpose()
}

/// An interval that does not grow any more and that nobody replays yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Names it.
    pub id: u64,
    /// The data type.
    pub data_type: String,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: TopicPartition,
    /// The first position.
    pub start: Offset,
    /// The position after the last one.
    pub end: Offset,
}

/// Lists the closed intervals that no job replays yet, the oldest first; at most `most`.
pub async fn closed(pool: &MySqlPool, most: u32) -> sqlx::Result<Vec<Closed>> {
    let rows = sqlx::query(
        "/* closed_deferred */ SELECT id, data_type, topic, topic_id, partition_number, start_position, end_position \
         FROM deferred WHERE open_marker IS NULL AND job_id IS NULL AND settled_at IS NULL \
         AND start_position < end_position ORDER BY id LIMIT ?",
    )
    .bind(most)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Closed {
                id: row.try_get("id")?,
                data_type: row.try_get("data_type")?,
                topic_id: TopicId::new(row.try_get::<String, _>("topic_id")?),
                partition: topic_partition(row)?,
                start: Offset(row.try_get("start_position")?),
                end: Offset(row.try_get("end_position")?),
            })
        })
        .collect()
}

/// Gives an interval its job, within the transaction that creates it. `false`: it has one already.
pub async fn take(connection: &mut MySqlConnection, id: u64, job: &str) -> sqlx::Result<bool> {
    let taken = sqlx::query(
        "/* take_deferred */ UPDATE deferred SET job_id = ? WHERE id = ? AND job_id IS NULL AND open_marker IS NULL",
    )
    .bind(job)
    .bind(id)
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// Settles the intervals whose job succeeded: they are owed no more.
pub async fn settle(pool: &MySqlPool) -> sqlx::Result<()> {
    sqlx::query(
        "/* settle_deferred */ UPDATE deferred JOIN jobs ON jobs.job_id = deferred.job_id \
         SET deferred.settled_at = UTC_TIMESTAMP(3) \
         WHERE deferred.settled_at IS NULL AND jobs.state = 'SUCCEEDED'",
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// An interval that is owed, and the job that replays it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The topic.
    pub topic: TopicName,
    /// The interval.
    pub interval: Interval,
    /// The job's id.
    pub job: Option<String>,
}

/// Lists what is owed of one data type, or of all, and holds something, by type, topic, partition and start; at most `most`.
pub async fn owed_of(
    executor: impl sqlx::MySqlExecutor<'_>,
    data_type: Option<&str>,
    most: u32,
) -> sqlx::Result<Vec<Owed>> {
    let rows = sqlx::query(
        "/* owed_of_type */ SELECT data_type, topic, partition_number, start_position, end_position, open_marker, \
         reason, job_id FROM deferred WHERE settled_at IS NULL AND start_position < end_position \
         AND data_type = COALESCE(?, data_type) \
         ORDER BY data_type, topic, partition_number, start_position LIMIT ?",
    )
    .bind(data_type)
    .bind(most)
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Owed {
                topic: TopicName::new(row.try_get::<String, _>("topic")?),
                interval: read(row)?,
                job: row.try_get("job_id")?,
            })
        })
        .collect()
}

fn read(row: &MySqlRow) -> sqlx::Result<Interval> {
    Ok(Interval {
        data_type: row.try_get("data_type")?,
        partition: row.try_get("partition_number")?,
        start: Offset(row.try_get("start_position")?),
        end: Offset(row.try_get("end_position")?),
        open: row.try_get::<Option<bool>, _>("open_marker")?.unwrap_or(false),
        reason: row.try_get("reason")?,
    })
}
