//! Accepted topics that are gone.
//!
//! The group takes the partitions of a deleted topic away from their owners within a second, so no owner is left who
//! could tell. Every worker asks for all declared topics instead, whatever it owns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use rdkafka::consumer::Consumer;
use reprise_shared::catalog::Catalog;
use reprise_shared::clock::Clock;
use reprise_shared::ingest_state::stops::{self, PartitionStop, PartitionStopReason};
use reprise_shared::ingest_state::topics;
use reprise_shared::kafka::calls::{self, Calls};
use reprise_shared::kafka::describe::{self, Described, describe_topics};
use reprise_shared::position::{Partition, TopicName, TopicPartition};
use reprise_shared::telemetry::chain;
use sqlx::mysql::MySqlPool;
use tokio_util::sync::CancellationToken;

use super::partition::Partitions;
use super::reader::Command;
use super::rebalance::LiveConsumer;
use crate::metrics;

/// How often it is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// A topic that does not exist for this long is taken for deleted; before that, a broker whose metadata is behind may
/// have said so.
const MISSING_FOR: Duration = Duration::from_secs(3);
/// One Kafka call may take this long.
const CALL_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Call(#[from] calls::Error),
    #[error("describe topics")]
    Describe(#[from] describe::Error),
    #[error("record a stopped partition")]
    Mysql(#[from] sqlx::Error),
}

/// Finds topics that are gone and puts their partitions on record as stopped.
pub struct MissingTopics {
    /// Runs Kafka calls.
    pub calls: Calls<LiveConsumer>,
    /// Remembers stops and accepted topics.
    pub pool: MySqlPool,
    /// Tells what is owned.
    pub partitions: Partitions,
    /// The declared topics.
    pub catalog: Arc<Catalog>,
    /// The reader.
    pub commands: Sender<Command>,
    /// Time.
    pub clock: Clock,
}

/// What is known of one topic that the broker does not have.
#[derive(Clone, Copy)]
struct Absence {
    /// By the monotonic clock.
    since: Duration,
    recorded: bool,
}

impl MissingTopics {
    /// Works until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let names: Vec<TopicName> = self.catalog.topics.iter().map(|topic| topic.name.clone()).collect();
        let mut absent = HashMap::new();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            match shutdown.run_until_cancelled(self.look(&names, &mut absent)).await {
                None => return,
                Some(Ok(())) => {}
                // What was not found out or recorded now is asked again.
                Some(Err(error)) => tracing::warn!(error = %chain(&error), "look for deleted topics"),
            }
        }
    }

    async fn look(&self, names: &[TopicName], absent: &mut HashMap<TopicName, Absence>) -> Result<(), Error> {
        let asked = names.to_vec();
        let described = self
            .calls
            .call(CALL_LIMIT, move |consumer| {
                describe_topics(consumer.client(), &asked, CALL_LIMIT)
            })
            .await??;
        for topic in names {
            let exists = matches!(described.get(topic), Some(Described::Topic { .. }));
            metrics::topic_missing(topic.as_str(), !exists);
            if exists {
                absent.remove(topic);
                continue;
            }
            let since = self.clock.monotonic();
            let absence = absent
                .entry(topic.clone())
                .or_insert(Absence { since, recorded: false });
            if !absence.recorded && self.clock.monotonic().saturating_sub(absence.since) >= MISSING_FOR {
                self.stop(topic).await?;
                absence.recorded = true;
            }
        }
        Ok(())
    }

    /// Puts every partition of an accepted topic on record, and stops those that this worker still owns.
    async fn stop(&self, topic: &TopicName) -> Result<(), Error> {
        let Some(accepted) = topics::accepted(&self.pool, topic).await? else {
            return Ok(());
        };
        let stop = missing_topic(topic);
        for number in 0..u16::try_from(accepted.partitions).unwrap_or(u16::MAX) {
            let partition = TopicPartition {
                topic: topic.clone(),
                partition: Partition(number),
            };
            stops::record_missing_topic(&self.pool, &partition, &stop).await?;
        }
        tracing::error!(%topic, %stop, "topic is gone");
        let owned = self
            .partitions
            .view(|partition, owned| (partition.clone(), owned.epoch));
        for (partition, epoch) in owned.into_iter().filter(|(partition, _)| partition.topic == *topic) {
            self.partitions.stop(&partition, epoch, stop.clone());
            metrics::partition_stopped(topic.as_str(), partition.partition.0, stop.reason.as_str());
            // A reader that is gone reads nothing.
            let _ = self.commands.send(Command::Stop { partition, epoch });
        }
        Ok(())
    }
}

/// Says that a topic does not exist.
fn missing_topic(topic: &TopicName) -> PartitionStop {
    PartitionStop::new(
        PartitionStopReason::TopicMissing,
        format!("topic {topic} does not exist any more; what was unread in it is lost"),
        None,
    )
}
