//! Stopped partitions and stopped data types.

use std::fmt;

use jiff::Timestamp;
use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlRow};
use sqlx::{AssertSqlSafe, Row};

use crate::mysql::positions::topic_partition;
use crate::position::{Offset, Partition, TopicName, TopicPartition};

/// Why a partition was stopped: going on would jump over records without saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartitionStopReason {
    /// The log begins after the position: retention or a purge deleted unread records.
    LogStartAhead,
    /// The log ends before the position: it was truncated.
    LogEndBehind,
    /// The topic's id changed: it was deleted and re-created.
    TopicRecreated,
    /// The topic is gone.
    TopicMissing,
    /// Kafka has no committed offset although one was committed before.
    OffsetsLost,
}

impl PartitionStopReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::LogStartAhead,
        Self::LogEndBehind,
        Self::TopicRecreated,
        Self::TopicMissing,
        Self::OffsetsLost,
    ];

    /// Reads a stored name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// Returns the name as it is stored, shown and counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LogStartAhead => "LOG_START_AHEAD",
            Self::LogEndBehind => "LOG_END_BEHIND",
            Self::TopicRecreated => "TOPIC_RECREATED",
            Self::TopicMissing => "TOPIC_MISSING",
            Self::OffsetsLost => "OFFSETS_LOST",
        }
    }
}

/// A stopped partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStop {
    /// Why.
    pub reason: PartitionStopReason,
    /// What happened and what to do, for a person.
    pub detail: String,
    /// The interval of positions that is missing, where it is known.
    pub missing: Option<(Offset, Offset)>,
    /// Where an operator wants it to go on.
    pub resume_from: Option<Offset>,
}

impl PartitionStop {
    /// Makes a stop that nobody has lifted yet.
    pub fn new(reason: PartitionStopReason, detail: impl Into<String>, missing: Option<(Offset, Offset)>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            missing,
            resume_from: None,
        }
    }
}

impl fmt::Display for PartitionStop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The interval before the words: what shows this may cut its end.
        formatter.write_str(self.reason.as_str())?;
        if let Some((from, to)) = self.missing {
            write!(formatter, " (missing: [{from}, {to}))")?;
        }
        write!(formatter, ": {}", self.detail)?;
        Ok(())
    }
}

/// Puts a stopped partition on record; the latest finding wins, and is to be resumed anew.
pub async fn record_partition_stop(
    pool: &MySqlPool,
    partition: &TopicPartition,
    stop: &PartitionStop,
) -> sqlx::Result<()> {
    sqlx::query(
        "/* partition_stop */ INSERT INTO partition_stops \
         (topic, partition_number, reason, detail, missing_from, missing_to, stopped_at) \
         VALUES (?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3)) ON DUPLICATE KEY UPDATE reason = VALUES(reason), \
         detail = VALUES(detail), missing_from = VALUES(missing_from), missing_to = VALUES(missing_to), \
         resume_from = NULL",
    )
    .bind(partition.topic.as_str())
    .bind(partition.partition.0)
    .bind(stop.reason.as_str())
    .bind(shortened(&stop.detail))
    .bind(stop.missing.map(|(from, _)| from.0))
    .bind(stop.missing.map(|(_, to)| to.0))
    .execute(pool)
    .await?;
    Ok(())
}

/// Puts a partition on record whose topic is gone. A stop that is already there stays: it tells more.
pub async fn record_missing_topic(
    pool: &MySqlPool,
    partition: &TopicPartition,
    stop: &PartitionStop,
) -> sqlx::Result<()> {
    sqlx::query(
        "/* record_missing_topic */ INSERT IGNORE INTO partition_stops (topic, partition_number, reason, detail, stopped_at) \
         VALUES (?, ?, ?, ?, UTC_TIMESTAMP(3))",
    )
    .bind(partition.topic.as_str())
    .bind(partition.partition.0)
    .bind(stop.reason.as_str())
    .bind(shortened(&stop.detail))
    .execute(pool)
    .await?;
    Ok(())
}

/// Reads the stop of a partition that is on record.
pub async fn partition_stop(pool: &MySqlPool, partition: &TopicPartition) -> sqlx::Result<Option<PartitionStop>> {
    let row = sqlx::query(
        "/* read_partition_stop */ SELECT reason, detail, missing_from, missing_to, resume_from FROM partition_stops \
         WHERE topic = ? AND partition_number = ?",
    )
    .bind(partition.topic.as_str())
    .bind(partition.partition.0)
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(read_stop).transpose()
}

/// Reads the stop of a partition, and keeps it as it is until the transaction ends.
pub async fn lock_partition_stop(
    connection: &mut MySqlConnection,
    partition: &TopicPartition,
) -> sqlx::Result<Option<PartitionStop>> {
    let row = sqlx::query(
        "/* lock_partition_stop */ SELECT reason, detail, missing_from, missing_to, resume_from FROM partition_stops \
         WHERE topic = ? AND partition_number = ? FOR UPDATE",
    )
    .bind(partition.topic.as_str())
    .bind(partition.partition.0)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read_stop).transpose()
}

/// Lists the stops of all partitions, by topic and number; at most `most`.
pub async fn partition_stops(pool: &MySqlPool, most: u32) -> sqlx::Result<Vec<(TopicPartition, PartitionStop)>> {
    let rows = sqlx::query(
        "/* partition_stops */ SELECT topic, partition_number, reason, detail, missing_from, missing_to, resume_from \
         FROM partition_stops ORDER BY topic, partition_number LIMIT ?",
    )
    .bind(most)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| Ok((topic_partition(row)?, read_stop(row)?)))
        .collect()
}

fn read_stop(row: &MySqlRow) -> sqlx::Result<PartitionStop> {
    let name: String = row.try_get("reason")?;
    let unknown = || sqlx::Error::Decode(format!("{name} is not a reason to stop a partition").into());
    let missing: (Option<u64>, Option<u64>) = (row.try_get("missing_from")?, row.try_get("missing_to")?);
    Ok(PartitionStop {
        reason: PartitionStopReason::parse(&name).ok_or_else(unknown)?,
        detail: row.try_get("detail")?,
        missing: missing.0.zip(missing.1).map(|(from, to)| (Offset(from), Offset(to))),
        resume_from: row.try_get::<Option<u64>, _>("resume_from")?.map(Offset),
    })
}

/// Lists the partitions that an operator wants to go on and that did not yet; at most `most`.
pub async fn to_resume(pool: &MySqlPool, most: u32) -> sqlx::Result<Vec<TopicPartition>> {
    let rows = sqlx::query(
        "/* partitions_to_resume */ SELECT topic, partition_number FROM partition_stops \
         WHERE resume_from IS NOT NULL ORDER BY topic, partition_number LIMIT ?",
    )
    .bind(most)
    .fetch_all(pool)
    .await?;
    rows.iter().map(topic_partition).collect()
}

/// Asks for a stopped partition to go on. Returns whether it was stopped.
pub async fn resume_partition(
    connection: &mut MySqlConnection,
    partition: &TopicPartition,
    from: Offset,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "/* resume_partition */ UPDATE partition_stops SET resume_from = ? WHERE topic = ? AND partition_number = ?",
    )
    .bind(from.0)
    .bind(partition.topic.as_str())
    .bind(partition.partition.0)
    .execute(connection)
    .await?;
    // The driver counts the rows that were found, whether they changed or not.
    Ok(done.rows_affected() > 0)
}

/// Removes the record of a stop: the partition is read again.
pub async fn clear_partition_stop(pool: &MySqlPool, topic: &TopicName, partition: Partition) -> sqlx::Result<()> {
    sqlx::query("/* clear_partition_stop */ DELETE FROM partition_stops WHERE topic = ? AND partition_number = ?")
        .bind(topic.as_str())
        .bind(partition.0)
        .execute(pool)
        .await?;
    Ok(())
}

/// The recorded state of a data type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeState {
    /// Its name.
    pub data_type: String,
    /// Whether it is stopped.
    pub stopped: bool,
    /// Why, in the words of the stop.
    pub reason: String,
    /// What happened, for a person.
    pub detail: String,
    /// When this was changed last, by the database's clock.
    pub changed_at: Timestamp,
    /// Whether the filter must not trust the Kafka key.
    pub in_key_off: bool,
}

const TYPE_STATE: &str = "data_type, stopped, stop_reason, stop_detail, in_key_off, \
     TIMESTAMPDIFF(MICROSECOND, '1970-01-01', changed_at) DIV 1000 AS changed_ms";

/// Reads the state of every data type that was ever stopped, or whose Kafka key was ever distrusted.
pub async fn type_states(pool: &MySqlPool) -> sqlx::Result<Vec<TypeState>> {
    let sql = format!("/* type_states */ SELECT {TYPE_STATE} FROM type_states");
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await?;
    rows.iter().map(type_state).collect()
}

/// Reads the state of one data type, and keeps it as it is until the transaction ends.
pub async fn lock_type_state(connection: &mut MySqlConnection, data_type: &str) -> sqlx::Result<Option<TypeState>> {
    let sql = format!("/* lock_type_state */ SELECT {TYPE_STATE} FROM type_states WHERE data_type = ? FOR UPDATE");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(data_type)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(type_state).transpose()
}

fn type_state(row: &MySqlRow) -> sqlx::Result<TypeState> {
    Ok(TypeState {
        data_type: row.try_get("data_type")?,
        stopped: row.try_get("stopped")?,
        reason: row.try_get("stop_reason")?,
        detail: row.try_get("stop_detail")?,
        changed_at: Timestamp::from_millisecond(row.try_get("changed_ms")?).unwrap_or(Timestamp::MAX),
        in_key_off: row.try_get("in_key_off")?,
    })
}

/// Stops a data type in the whole fleet; the first reason stays.
pub async fn stop_type(
    executor: impl sqlx::MySqlExecutor<'_>,
    data_type: &str,
    reason: &str,
    detail: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "/* stop_type */ INSERT INTO type_states (data_type, stopped, stop_reason, stop_detail, changed_at) \
         VALUES (?, 1, ?, ?, UTC_TIMESTAMP(3)) ON DUPLICATE KEY UPDATE \
         stop_reason = IF(stopped = 1, stop_reason, VALUES(stop_reason)), \
         stop_detail = IF(stopped = 1, stop_detail, VALUES(stop_detail)), \
         changed_at = IF(stopped = 1, changed_at, VALUES(changed_at)), stopped = 1",
    )
    .bind(data_type)
    .bind(reason)
    .bind(shortened(detail))
    .execute(executor)
    .await?;
    Ok(())
}

/// Lets a data type go on in the whole fleet; with `trust_key` its Kafka key counts again.
pub async fn resume_type(connection: &mut MySqlConnection, data_type: &str, trust_key: bool) -> sqlx::Result<()> {
    sqlx::query(
        "/* resume_type */ UPDATE type_states SET stopped = 0, stop_reason = '', stop_detail = '', \
         in_key_off = IF(?, 0, in_key_off), changed_at = UTC_TIMESTAMP(3) WHERE data_type = ?",
    )
    .bind(trust_key)
    .bind(data_type)
    .execute(connection)
    .await?;
    Ok(())
}

/// Tells the whole fleet not to trust the Kafka key of a data type.
pub async fn turn_in_key_off(pool: &MySqlPool, data_type: &str) -> sqlx::Result<()> {
    sqlx::query(
        "/* in_key_off */ INSERT INTO type_states (data_type, in_key_off, changed_at) \
         VALUES (?, 1, UTC_TIMESTAMP(3)) ON DUPLICATE KEY UPDATE in_key_off = 1",
    )
    .bind(data_type)
    .execute(pool)
    .await?;
    Ok(())
}

/// Cuts a text to what the column holds.
fn shortened(text: &str) -> String {
    text.chars().take(1_000).collect()
}
