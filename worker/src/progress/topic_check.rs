//! Is each topic still the one that was accepted? Asked in every tick, before anything moves.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use reprise_shared::kafka::describe::{Described, describe_topics};
use reprise_shared::position::TopicName;
use reprise_shared::telemetry::chain;

use super::tick::{Delivered, Progress};
use crate::source::admission::{missing_topic, recreated, stop_partition};
use crate::source::reader::Command;

/// A topic that does not exist for this long is taken for deleted; before that, a broker whose metadata is behind may
/// have said so.
const MISSING_FOR: Duration = Duration::from_secs(3);

/// Since when topics do not exist, by the monotonic clock.
pub(super) type Missing = HashMap<TopicName, Duration>;

impl Progress {
    /// Returns those partitions whose topic has the accepted id now, and stops those of another topic. `None`: it could
    /// not be asked.
    pub(super) async fn check_topics(
        &self,
        delivered: Vec<Delivered>,
        missing: &mut Missing,
    ) -> Option<Vec<Delivered>> {
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
                    missing.remove(topic);
                    sure.push(one);
                    continue;
                }
                Some(Described::Topic { id, .. }) => recreated(topic, &one.stretch.topic_id, id),
                Some(Described::Missing) | None => {
                    let now = self.clock.monotonic();
                    let since = *missing.entry(topic.clone()).or_insert(now);
                    if now.saturating_sub(since) < MISSING_FOR {
                        continue;
                    }
                    missing_topic(topic)
                }
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
