//! Is each topic still the one that was accepted? Asked in every tick, before anything moves.

use rdkafka::consumer::Consumer;
use reprise_shared::kafka::describe::{Described, describe_topics};
use reprise_shared::position::TopicName;
use reprise_shared::telemetry::chain;

use super::tick::{Delivered, Progress};
use crate::source::admission::{recreated, stop_partition};
use crate::source::reader::Command;

impl Progress {
    /// Returns those partitions whose topic has the accepted id now, and stops those of another topic. `None`: it could
    /// not be asked.
    pub(super) async fn check_topics(&self, delivered: Vec<Delivered>) -> Option<Vec<Delivered>> {
        let mut topics: Vec<TopicName> = delivered.iter().map(|one| one.partition.topic.clone()).collect();
        topics.sort_unstable();
        topics.dedup();
        let limit = self.limits.call;
        let asked = self
            .calls
            .call(limit, move |consumer| {
                describe_topics(consumer.client(), &topics, limit)
            })
            .await;
        let described = match asked {
            Ok(Ok(described)) => described,
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "topic ids are unknown: ledger and commit wait for kafka");
                return None;
            }
            Err(error) => {
                tracing::warn!(%error, "topic ids are unknown: ledger and commit wait for kafka");
                return None;
            }
        };
        let mut sure = Vec::with_capacity(delivered.len());
        for one in delivered {
            let topic = &one.partition.topic;
            let stop = match described.get(topic) {
                Some(Described::Topic { id, .. }) if *id == one.stretch.topic_id => {
                    sure.push(one);
                    continue;
                }
                Some(Described::Topic { id, .. }) => recreated(topic, &one.stretch.topic_id, id),
                // Nothing of it moves. Whether it is gone for good is told by source::missing_topics.
                Some(Described::Missing) | None => continue,
            };
            match stop_partition(&self.pool, &self.partitions, &one.partition, one.epoch, stop).await {
                Ok(()) => {
                    // A reader that is gone reads nothing.
                    let _ = self.commands.send(Command::Stop {
                        partition: one.partition,
                        epoch: one.epoch,
                    });
                }
                // Nothing of it moves either; the next tick finds the same.
                Err(error) => tracing::warn!(%error, partition = %one.partition, "record a stopped partition"),
            }
        }
        Some(sure)
    }
}
