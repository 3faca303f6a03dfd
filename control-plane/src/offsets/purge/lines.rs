//! What of the ledger a purge goes over: every partition that ingest ever read, and in each the ranges of every data
//! type that ever had some, also those that no catalog names any more.

use std::collections::BTreeSet;

use reprise_shared::ingest_state::topics;
use reprise_shared::position::{Offset, TopicName, TopicPartition};
use reprise_shared::telemetry::chain;

use super::Purge;
use crate::offsets::{Error, Offsets, chosen, place};

/// Topics that were ever read; nobody has more.
const MOST_TOPICS: u32 = 10_000;
/// Kafka is asked for the logs of so many partitions in one call.
const LOGS_AT_A_TIME: usize = 64;

impl Offsets {
    /// Returns every partition that ingest ever read, by topic.
    pub(super) async fn partitions_on_record(&self) -> Result<Vec<(TopicName, Vec<TopicPartition>)>, Error> {
        let topics = topics::all_accepted(self.parts().database.pool(), MOST_TOPICS).await?;
        let all = |(topic, accepted): (TopicName, topics::Accepted)| {
            let partitions = chosen(&[], accepted.partitions).into_iter();
            let places = partitions.map(|partition| place(&topic, partition)).collect();
            (topic, places)
        };
        Ok(topics.into_iter().map(all).collect())
    }

    /// Returns the data types whose ranges in a partition are purged: those that had some, and those of the catalog.
    pub(super) async fn purged_types(
        &self,
        purge: &Purge,
        partition: &TopicPartition,
    ) -> Result<BTreeSet<String>, Error> {
        let mut types: BTreeSet<String> = self.0.purger.data_types(partition).await?.into_iter().collect();
        let catalog = self.catalog().data_types.iter();
        let of_topic = catalog.filter(|data_type| data_type.topic == partition.topic);
        types.extend(of_topic.map(|data_type| data_type.name.clone()));
        types.retain(|name| purge.data_type.as_ref().is_none_or(|asked| asked == name));
        Ok(types)
    }

    /// Returns the partitions of a topic whose log begins above 0, each with that start. Where Kafka does not answer,
    /// or the topic is gone, there are none: the next purge sees to them.
    pub(super) async fn log_starts(
        &self,
        topic: &TopicName,
        partitions: &[TopicPartition],
    ) -> Vec<(TopicPartition, Offset)> {
        let mut starts = Vec::new();
        for some in partitions.chunks(LOGS_AT_A_TIME) {
            let numbers: Vec<_> = some.iter().map(|partition| partition.partition).collect();
            match self.parts().kafka.logs(topic, &numbers).await {
                Ok(logs) => starts.extend(some.iter().cloned().zip(logs.into_iter().map(|log| log.start))),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), kafka.topic = %topic, "coverage was not trimmed");
                    break;
                }
            }
        }
        starts.retain(|(_, start)| start.0 > 0);
        starts
    }
}
