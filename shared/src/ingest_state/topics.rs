//! Accepted topics and the first start of each of their partitions.

use std::sync::Arc;

use sqlx::Row;
use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlRow};

use crate::mysql::Database;
use crate::position::{Offset, Partition, TopicGeneration, TopicId, TopicName};

/// An accepted topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Which incarnation this is.
    pub generation: TopicGeneration,
    /// Its id at the broker.
    pub topic_id: TopicId,
    /// How many partitions it had when last seen.
    pub partitions: usize,
}

/// Where a partition was first read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstStart {
    /// The position.
    pub position: Offset,
    /// Whether that position was committed to Kafka.
    pub confirmed: bool,
}

/// Reads what is known of a topic; `None` for a new one.
pub async fn accepted(pool: &MySqlPool, topic: &TopicName) -> sqlx::Result<Option<Accepted>> {
    let row = sqlx::query(
        "/* accepted_topic */ SELECT generation, topic_id, partitions FROM topic_generations WHERE topic = ?",
    )
    .bind(topic.as_str())
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(read_accepted).transpose()
}

/// Reads what is known of all topics that were ever read, by name, at most so many.
pub async fn all_accepted(pool: &MySqlPool, most: u32) -> sqlx::Result<Vec<(TopicName, Accepted)>> {
    let rows = sqlx::query(
        "/* accepted_topics */ SELECT topic, generation, topic_id, partitions FROM topic_generations \
         ORDER BY topic LIMIT ?",
    )
    .bind(most)
    .fetch_all(pool)
    .await?;
    let named = |row: &MySqlRow| Ok((TopicName::new(row.try_get::<String, _>("topic")?), read_accepted(row)?));
    rows.iter().map(named).collect()
}

fn read_accepted(row: &MySqlRow) -> sqlx::Result<Accepted> {
    Ok(Accepted {
        generation: TopicGeneration(row.try_get("generation")?),
        topic_id: TopicId::new(row.try_get::<String, _>("topic_id")?),
        partitions: row.try_get::<u32, _>("partitions")? as usize,
    })
}

/// Accepts a new topic as generation 0 and records the first start of its partitions, all in one transaction.
/// Changes nothing when another worker was first.
pub async fn accept_new(
    database: &Database,
    topic: &TopicName,
    topic_id: &TopicId,
    starts: &[(Partition, Offset)],
) -> sqlx::Result<()> {
    let (topic, topic_id, starts) = (topic.clone(), topic_id.clone(), Arc::<[_]>::from(starts));
    database
        .tx("accept_topic", move |connection| {
            let (topic, topic_id, starts) = (topic.clone(), topic_id.clone(), Arc::clone(&starts));
            Box::pin(async move {
                let accepted = sqlx::query(
                    "/* accept_topic */ INSERT IGNORE INTO topic_generations \
                     (topic, generation, topic_id, partitions, accepted_at) VALUES (?, 0, ?, ?, UTC_TIMESTAMP(3))",
                )
                .bind(topic.as_str())
                .bind(topic_id.as_str())
                .bind(u32::try_from(starts.len()).unwrap_or(u32::MAX))
                .execute(&mut *connection)
                .await?
                .rows_affected();
                if accepted == 0 {
                    return Ok(());
                }
                for (partition, start) in starts.iter() {
                    insert_start(&mut *connection, &topic, TopicGeneration(0), *partition, *start).await?;
                }
                Ok(())
            })
        })
        .await
}

/// Accepts another incarnation of a topic, as the next generation. Changes nothing when it is the accepted one already.
pub async fn accept_incarnation(
    connection: &mut MySqlConnection,
    topic: &TopicName,
    topic_id: &TopicId,
    partitions: usize,
) -> sqlx::Result<()> {
    sqlx::query(
        "/* accept_incarnation */ UPDATE topic_generations SET generation = generation + 1, partitions = ?, \
         accepted_at = UTC_TIMESTAMP(3), topic_id = ? WHERE topic = ? AND topic_id <> ?",
    )
    .bind(u32::try_from(partitions).unwrap_or(u32::MAX))
    .bind(topic_id.as_str())
    .bind(topic.as_str())
    .bind(topic_id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Records the first start of a partition that was added later. Changes nothing when it is recorded already.
pub async fn add_partition(
    pool: &MySqlPool,
    topic: &TopicName,
    generation: TopicGeneration,
    partition: Partition,
    start: Offset,
) -> sqlx::Result<()> {
    insert_start(pool, topic, generation, partition, start).await?;
    sqlx::query("/* grow_topic */ UPDATE topic_generations SET partitions = GREATEST(partitions, ?) WHERE topic = ?")
        .bind(u32::from(partition.0) + 1)
        .bind(topic.as_str())
        .execute(pool)
        .await?;
    Ok(())
}

async fn insert_start(
    executor: impl sqlx::MySqlExecutor<'_>,
    topic: &TopicName,
    generation: TopicGeneration,
    partition: Partition,
    start: Offset,
) -> sqlx::Result<()> {
    sqlx::query(
        "/* partition_start */ INSERT IGNORE INTO partition_starts \
         (topic, generation, partition_number, start_position, resolved_at) VALUES (?, ?, ?, ?, UTC_TIMESTAMP(3))",
    )
    .bind(topic.as_str())
    .bind(generation.0)
    .bind(partition.0)
    .bind(start.0)
    .execute(executor)
    .await?;
    Ok(())
}

/// Reads where a partition was first read from.
pub async fn first_start(
    pool: &MySqlPool,
    topic: &TopicName,
    generation: TopicGeneration,
    partition: Partition,
) -> sqlx::Result<Option<FirstStart>> {
    let row = sqlx::query(
        "/* first_start */ SELECT start_position, confirmed FROM partition_starts \
         WHERE topic = ? AND generation = ? AND partition_number = ?",
    )
    .bind(topic.as_str())
    .bind(generation.0)
    .bind(partition.0)
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        Ok(FirstStart {
            position: Offset(row.try_get("start_position")?),
            confirmed: row.try_get("confirmed")?,
        })
    })
    .transpose()
}

/// Records that a partition's first start was committed to Kafka.
pub async fn confirm_start(
    pool: &MySqlPool,
    topic: &TopicName,
    generation: TopicGeneration,
    partition: Partition,
) -> sqlx::Result<()> {
    sqlx::query(
        "/* confirm_start */ UPDATE partition_starts SET confirmed = 1 \
         WHERE topic = ? AND generation = ? AND partition_number = ?",
    )
    .bind(topic.as_str())
    .bind(generation.0)
    .bind(partition.0)
    .execute(pool)
    .await?;
    Ok(())
}
