//! Which offsets were processed, and when: questions to the ledger, to Kafka and to MySQL, and the purge of old ranges.
//!
//! Reading order: [`window`] (times, pure), [`list`], [`resolve`] with [`hull`] (pure), [`audit`] with [`pieces`]
//! (pure), [`purge`].
//!
//! A topic that was deleted and created again has another id, and what the ledger holds of the former one counts no
//! more. Lists ask MySQL which id ingest accepted, so that they need no Kafka; what is compared with the log itself
//! counts for the id that Kafka has now.

pub mod audit;
pub mod config;
pub mod error;
pub mod hull;
pub mod list;
pub mod pieces;
pub mod purge;
pub mod resolve;
mod scan;
pub mod window;

use std::sync::Arc;

use reprise_shared::catalog::{Catalog, DataType};
use reprise_shared::clock::Clock;
use reprise_shared::ingest_state::topics;
use reprise_shared::ledger::{Purger, Reader};
use reprise_shared::mysql::Database;
use reprise_shared::position::{Partition, TopicName, TopicPartition};
use reprise_shared::redis::Redis;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use error::Error;

use crate::kafka::Kafka;

/// What the answers are made from.
pub struct Parts {
    /// Data types and topics.
    pub catalog: Arc<Catalog>,
    /// Accepted topics, deferred intervals, the audit log.
    pub database: Database,
    /// The ledger.
    pub redis: Redis,
    /// The logs.
    pub kafka: Kafka,
    /// The time.
    pub clock: Clock,
    /// Ends purges early, in order.
    pub shutdown: CancellationToken,
    /// Limits.
    pub config: Config,
}

/// Answers questions about offsets. Cheap to clone.
#[derive(Clone)]
pub struct Offsets(Arc<Shared>);

struct Shared {
    parts: Parts,
    reader: Reader,
    purger: Purger,
}

impl Offsets {
    /// Makes it; nothing is asked yet.
    pub fn new(parts: Parts) -> Self {
        let (reader, purger) = (Reader::new(parts.redis.clone()), Purger::new(parts.redis.clone()));
        Self(Arc::new(Shared { parts, reader, purger }))
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.0.parts.catalog
    }

    /// Finds a data type by its name.
    pub fn data_type(&self, name: &str) -> Option<&DataType> {
        let catalog = self.catalog();
        catalog.find_data_type(name).map(|index| catalog.data_type(index))
    }

    /// Returns how many partitions Kafka has for a topic.
    ///
    /// # Errors
    /// When Kafka does not answer, or has no such topic.
    pub async fn partitions(&self, topic: &TopicName) -> Result<usize, Error> {
        Ok(self.parts().kafka.topic(topic).await?.partitions)
    }

    /// Returns how many partitions of a topic ingest has seen; `None`: it never read the topic.
    ///
    /// # Errors
    /// When MySQL does not answer.
    pub async fn accepted_partitions(&self, topic: &TopicName) -> Result<Option<usize>, Error> {
        let accepted = topics::accepted(self.parts().database.pool(), topic).await?;
        Ok(accepted.map(|accepted| accepted.partitions))
    }

    fn parts(&self) -> &Parts {
        &self.0.parts
    }

    fn config(&self) -> &Config {
        &self.0.parts.config
    }
}

/// Returns the chosen partitions of those that there are, or all, ascending.
fn chosen(partitions: &[Partition], count: usize) -> Vec<Partition> {
    let all = (0..=u16::MAX).take(count).map(Partition);
    all.filter(|partition| partitions.is_empty() || partitions.contains(partition))
        .collect()
}

fn place(topic: &TopicName, partition: Partition) -> TopicPartition {
    TopicPartition {
        topic: topic.clone(),
        partition,
    }
}
