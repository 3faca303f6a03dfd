//! Why there is no plan.

use reprise_shared::position::{TopicName, TopicPartition};
use reprise_shared::redis;

use super::plan::Refusal;
use crate::{kafka, whitelist};

/// A field that does not fit what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as the request names it.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl Violation {
    /// Makes one.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields do not fit what is there: all of them.
    #[error("fields do not fit what is there")]
    Fields(Vec<Violation>),
    /// The plan is not possible.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Ingest has not accepted this incarnation of a topic, so its records have no order yet.
    #[error("{problem}")]
    NotAccepted {
        /// The topic.
        topic: TopicName,
        /// What is the matter and what to do.
        problem: String,
    },
    /// A table does not allow what is asked for.
    #[error("{0}")]
    Table(String),
    /// A partition has more of something than a plan may be made from.
    #[error("{partition} has more than {most} {what}")]
    TooMuch {
        /// The partition.
        partition: TopicPartition,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// The ranges were judged by more versions of the whitelist than a plan may look at.
    #[error(
        "what is asked for was judged by {versions} versions of the whitelist, and a plan looks at no more than {most}"
    )]
    TooManyVersions {
        /// So many.
        versions: usize,
        /// The limit.
        most: usize,
    },
    /// The plan itself is too large to be kept.
    #[error("the plan comes to {bytes} bytes, and at most {most} are kept")]
    TooLarge {
        /// So many.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// The server stops, or planning met a fault of ours.
    #[error("planning stopped")]
    Stopped,
    /// Kafka did not answer.
    #[error("ask kafka")]
    Kafka(#[from] kafka::Error),
    /// Redis did not answer.
    #[error("ask redis")]
    Redis(#[from] redis::Error),
    /// MySQL did not answer.
    #[error("ask mysql")]
    Mysql(#[from] sqlx::Error),
    /// The whitelist could not be read.
    #[error("read the whitelist")]
    Whitelist(#[from] whitelist::Error),
}
