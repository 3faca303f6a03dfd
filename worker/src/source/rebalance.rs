//! What the group coordinator asks, handed to the reader.
//!
//! The callback only takes note: librdkafka holds all partitions paused until the (un)assign call, which the reader
//! makes when it is ready. While the consumer is being closed nobody reads any more, so the callback answers itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use reprise_shared::position::{Partition, TopicName, TopicPartition};

use super::client_log;
use super::lag::Lag;

/// What the coordinator asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// These partitions are given. An empty list must be acknowledged all the same.
    Assign(Vec<TopicPartition>),
    /// These partitions are taken away.
    Revoke(Vec<TopicPartition>),
}

/// The consumer's context: takes requests and statistics.
#[derive(Debug, Default)]
pub struct Context {
    requests: Mutex<VecDeque<Request>>,
    closing: AtomicBool,
    /// What the client last knew of each partition's end.
    pub lag: Lag,
}

/// The live consumer.
pub type LiveConsumer = BaseConsumer<Context>;

impl Context {
    /// Takes the oldest request.
    pub fn next_request(&self) -> Option<Request> {
        self.requests.lock().pop_front()
    }

    /// From now on the callback answers requests itself: the reader has ended.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.lag.update(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client_log::line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_log::error(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &LiveConsumer, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assign = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let answer = if assign {
                consumer.incremental_assign(list)
            } else {
                consumer.incremental_unassign(list)
            };
            if let Err(error) = answer {
                tracing::warn!(%error, "answer a rebalance while closing");
            }
            return;
        }
        let partitions = list
            .elements()
            .iter()
            .filter_map(|element| {
                let partition = Partition::from_kafka(element.partition())?;
                Some(TopicPartition {
                    topic: TopicName::new(element.topic()),
                    partition,
                })
            })
            .collect();
        let request = if assign {
            Request::Assign(partitions)
        } else {
            Request::Revoke(partitions)
        };
        self.requests.lock().push_back(request);
    }
}

/// Makes the client's list of partitions, each at an offset.
pub fn list<'a>(
    partitions: impl IntoIterator<Item = (&'a TopicPartition, rdkafka::Offset)>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        list.add_partition_offset(partition.topic.as_str(), partition.partition.to_kafka(), offset)?;
    }
    Ok(list)
}
