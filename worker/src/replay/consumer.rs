//! The client of one task, and what it is asked beside records.

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use reprise_shared::kafka::describe::{self, Described, describe_topics};
use reprise_shared::position::{Offset, TopicId, TopicPartition};

use super::end::{Log, Topic};
use crate::source::client_log;

/// The context of a task's consumer: it only logs.
#[derive(Debug, Default)]
pub(super) struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client_log::line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_log::error(&error, reason);
    }
}

impl ConsumerContext for Logging {}

/// A consumer that reads what it is assigned.
pub(super) type TaskConsumer = BaseConsumer<Logging>;

/// Returns where the client is; `None`: it cannot tell.
pub(super) fn position(consumer: &TaskConsumer, partition: &TopicPartition) -> Option<Offset> {
    let positions = consumer.position().ok()?;
    let element = positions.find_partition(partition.topic.as_str(), partition.partition.to_kafka())?;
    match element.offset() {
        rdkafka::Offset::Offset(offset) => Offset::from_kafka(offset),
        _ => None,
    }
}

/// Asks whether the topic still has this id, and for the log's bounds; with `read_committed` its end is the last stable
/// offset. The error is for the log.
pub(super) fn log(
    consumer: &TaskConsumer,
    partition: &TopicPartition,
    topic_id: &TopicId,
    limit: Duration,
) -> Result<Log, String> {
    let topic = match topic(consumer, partition, topic_id, limit) {
        Ok(topic) => topic,
        Err(error) => return Err(reprise_shared::telemetry::chain(&error).to_string()),
    };
    if topic != Topic::Same {
        let zero = Offset(0);
        return Ok(Log {
            start: zero,
            end: zero,
            topic,
        });
    }
    let bounds = consumer.fetch_watermarks(partition.topic.as_str(), partition.partition.to_kafka(), limit);
    let (start, end) = bounds.map_err(|error| error.to_string())?;
    match (Offset::from_kafka(start), Offset::from_kafka(end)) {
        (Some(start), Some(end)) => Ok(Log { start, end, topic }),
        _ => Err(format!("it says that the log is [{start}, {end})")),
    }
}

fn topic(
    consumer: &TaskConsumer,
    partition: &TopicPartition,
    topic_id: &TopicId,
    limit: Duration,
) -> Result<Topic, describe::Error> {
    let name = &partition.topic;
    let described = describe_topics(consumer.client(), std::slice::from_ref(name), limit)?;
    Ok(match described.get(name) {
        Some(Described::Topic { id, .. }) if id == topic_id => Topic::Same,
        Some(Described::Topic { .. }) => Topic::Another,
        Some(Described::Missing) | None => Topic::Gone,
    })
}
