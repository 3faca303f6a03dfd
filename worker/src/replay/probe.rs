//! Questions to Kafka that belong to no task's reading: topic ids, and how far live traffic is behind. Asked by a client of
//! its own that joins no group.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use reprise_shared::config::KafkaConfig;
use reprise_shared::kafka::calls::{self, Calls};
use reprise_shared::kafka::client::consumer_config;
use reprise_shared::kafka::describe::{self, Described, describe_topics};
use reprise_shared::position::TopicName;

use super::consumer::{Logging, TaskConsumer};
use super::live_first::Live;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The call did not return.
    #[error(transparent)]
    Call(#[from] calls::Error),
    /// The topic could not be described.
    #[error("describe the topic")]
    Describe(#[from] describe::Error),
    /// Positions could not be asked.
    #[error("ask for positions")]
    Kafka(#[from] KafkaError),
}

/// Asks; one call at a time.
pub(super) struct Probe {
    calls: tokio::sync::Mutex<Calls<TaskConsumer>>,
    limit: Duration,
}

impl Probe {
    /// Makes a client that names the live group, to ask for its positions. It never joins it.
    pub(super) fn new(
        name: &'static str,
        kafka: &KafkaConfig,
        group: &str,
        limit: Duration,
    ) -> Result<Self, ProbeError> {
        let consumer = consumer_config(kafka, group)
            .create_with_context(Logging)
            .map_err(ProbeError::Client)?;
        let calls = Calls::start(name, Arc::new(consumer)).map_err(ProbeError::Thread)?;
        Ok(Self {
            calls: tokio::sync::Mutex::new(calls),
            limit,
        })
    }

    /// Describes a topic. Cancel-safe.
    pub(super) async fn describe(&self, topic: &TopicName) -> Result<Described, Error> {
        let (topic, limit) = (topic.clone(), self.limit);
        let calls = self.calls.lock().await;
        let described = calls
            .call(limit, move |consumer| {
                describe_topics(consumer.client(), &[topic], limit).map(|mut described| described.drain().next())
            })
            .await??;
        Ok(described.map_or(Described::Missing, |(_, described)| described))
    }

    /// Returns how far the live group is in some topics; `None` when it has not committed anything there, so that
    /// nothing can be said. Cancel-safe.
    pub(super) async fn live(&self, topics: Vec<TopicName>) -> Result<Option<Live>, Error> {
        let limit = self.limit;
        let calls = self.calls.lock().await;
        calls
            .call(limit, move |consumer| live(consumer, &topics, limit))
            .await?
    }
}

/// Why there is no probe.
#[derive(Debug)]
pub(super) enum ProbeError {
    Client(KafkaError),
    Thread(io::Error),
}

fn live(consumer: &TaskConsumer, topics: &[TopicName], limit: Duration) -> Result<Option<Live>, Error> {
    let mut partitions = TopicPartitionList::new();
    for (topic, described) in describe_topics(consumer.client(), topics, limit)? {
        if let Described::Topic { partitions: count, .. } = described {
            for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
                partitions.add_partition(topic.as_str(), partition);
            }
        }
    }
    if partitions.count() == 0 {
        return Ok(None);
    }
    let committed = consumer.committed_offsets(partitions, limit)?;
    let mut found: Option<Live> = None;
    for element in committed.elements() {
        if let rdkafka::Offset::Offset(position) = element.offset() {
            let (_, end) = consumer.fetch_watermarks(element.topic(), element.partition(), limit)?;
            let live = found.get_or_insert_default();
            live.committed += u64::try_from(position).unwrap_or(0);
            live.lag += u64::try_from(end.saturating_sub(position)).unwrap_or(0);
        }
    }
    Ok(found)
}
