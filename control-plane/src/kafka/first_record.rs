//! Whether what the broker found for a time is a record.
//!
//! The broker's index of times knows markers of transactions, too, whose time is that of the broker's clock, and records
//! of aborted ones. Both are never delivered, so neither says anything about the times of records.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset as Mark, TopicPartitionList};
use reprise_shared::kafka::client::consumer_config;
use reprise_shared::ledger::Millis;
use reprise_shared::position::{Offset, Partition, TopicName};

use super::{Error, Kafka};

/// The longest wait in one step.
const POLL: Duration = Duration::from_millis(50);
/// What the client may fetch ahead, in KiB: one record of each partition is enough.
const QUEUE_KIB: &str = "1024";

impl Kafka {
    /// Returns the time of the first record that is delivered from each place on, by partition. One is left out that
    /// has none, or whose record was not there in half of the time that calls have. Joins no group.
    ///
    /// # Errors
    /// Why Kafka gave no answer.
    pub async fn first_times(
        &self,
        topic: &TopicName,
        places: Vec<(Partition, Offset)>,
    ) -> Result<BTreeMap<Partition, Millis>, Error> {
        const WHAT: &str = "look at the first records of a time";
        if places.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut config = consumer_config(&self.0.config, &format!("{}-explain", self.0.group));
        config
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", QUEUE_KIB);
        let (topic, limit) = (topic.clone(), self.0.limit / 2);
        self.call(WHAT, move |_| {
            let failed = |source| Error::Call { what: WHAT, source };
            let consumer: BaseConsumer = config.create().map_err(failed)?;
            let mut list = TopicPartitionList::with_capacity(places.len());
            for (partition, offset) in &places {
                let at = Mark::Offset(offset.to_kafka());
                list.add_partition_offset(topic.as_str(), partition.to_kafka(), at)
                    .map_err(failed)?;
            }
            consumer.assign(&list).map_err(failed)?;
            let mut open: BTreeMap<i32, Partition> = places.iter().map(|(one, _)| (one.to_kafka(), *one)).collect();
            let mut times = BTreeMap::new();
            for _ in 0..limit.as_millis() / POLL.as_millis() {
                let ended = match consumer.poll(POLL) {
                    Some(Ok(message)) => {
                        let time = message.timestamp().to_millis().filter(|time| *time >= 0);
                        let partition = open.remove(&message.partition());
                        times.extend(partition.zip(time.map(Millis)));
                        Some(message.partition())
                    }
                    Some(Err(KafkaError::PartitionEOF(partition))) => {
                        open.remove(&partition);
                        Some(partition)
                    }
                    Some(Err(error)) => {
                        tracing::debug!(%error, "kafka poll");
                        None
                    }
                    None => None,
                };
                if open.is_empty() {
                    break;
                }
                if let Some(partition) = ended {
                    let mut done = TopicPartitionList::with_capacity(1);
                    done.add_partition(topic.as_str(), partition);
                    consumer.pause(&done).map_err(failed)?;
                }
            }
            Ok(times)
        })
        .await
    }
}
