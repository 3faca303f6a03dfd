//! Positions as columns of reprise's own tables name them.

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use crate::position::{Partition, TopicName, TopicPartition};

/// Reads the columns `topic` and `partition_number`.
///
/// # Errors
/// When one of them was not selected or holds something else.
pub fn topic_partition(row: &MySqlRow) -> sqlx::Result<TopicPartition> {
    Ok(TopicPartition {
        topic: TopicName::new(row.try_get::<String, _>("topic")?),
        partition: Partition(row.try_get("partition_number")?),
    })
}
