//! Why a question about offsets has no answer.

use reprise_shared::position::TopicPartition;
use reprise_shared::redis;

use crate::kafka;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis did not answer.
    #[error("ask redis")]
    Redis(#[from] redis::Error),
    /// MySQL did not answer.
    #[error("ask mysql")]
    Mysql(#[from] sqlx::Error),
    /// Kafka did not answer.
    #[error("ask kafka")]
    Kafka(#[from] kafka::Error),
    /// A partition has more of something than one answer may be made from.
    #[error("{partition} has more than {most} {what}")]
    TooMuch {
        /// The partition.
        partition: TopicPartition,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// Another purge runs.
    #[error("a purge is running")]
    PurgeRuns,
    /// The id of the request belongs to another request.
    #[error("the request_id was used for another request")]
    RequestIdReused,
    /// A purge ended before its end: removed so many ranges, perhaps more.
    #[error("the purge ended early, after {removed} ranges: {reason}")]
    Unfinished {
        /// How many ranges were removed for certain.
        removed: u64,
        /// Why it ended.
        reason: &'static str,
    },
}
