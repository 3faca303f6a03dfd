//! What an operator or a mishap does to a fleet's topic and group.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use reprise_shared::heartbeat;
use sqlx::Row;

use super::Fleet;
use crate::feed::{FeedRecord, Report, publish};
use crate::wait::{blocking, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

/// A stop on record: reason, and the missing interval where it is known.
pub type Stop = (String, Option<(u64, u64)>);

impl Fleet {
    /// Publishes records as they are, in order.
    pub async fn publish_records(&self, records: Vec<FeedRecord>) -> Result<Report> {
        let destination = self.destination();
        blocking("publish", Duration::from_secs(60), move || {
            let records: Box<dyn Iterator<Item = FeedRecord>> = Box::new(records.into_iter());
            publish(records, &destination, None, |_| std::ops::ControlFlow::Continue(()))
        })
        .await
    }

    /// Deletes the records of a partition below an offset.
    pub async fn delete_records(&self, partition: u16, below: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, i32::from(partition), Offset::Offset(below))?;
        let done = self.isolation.admin()?.delete_records(&list, &options()).await?;
        for element in done.elements() {
            element.error().context("delete records")?;
        }
        Ok(())
    }

    /// Puts settings of the topic in the place of all that it has.
    pub async fn configure_topic(&self, settings: &[(&str, &str)]) -> Result<()> {
        let topic = AlterConfig::new(ResourceSpecifier::Topic(&self.topic));
        let config = settings
            .iter()
            .fold(topic, |config, (key, value)| config.set(key, value));
        for result in self.isolation.admin()?.alter_configs([&config], &options()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("configure {topic:?}: {code}"))?;
        }
        Ok(())
    }

    /// Adds partitions to the topic.
    pub async fn grow(&mut self, partitions: u16) -> Result<()> {
        let wanted = NewPartitions::new(&self.topic, usize::from(partitions));
        let done = self.isolation.admin()?.create_partitions([&wanted], &options()).await?;
        for result in done {
            result.map_err(|(topic, code)| anyhow::anyhow!("add partitions to {topic}: {code}"))?;
        }
        self.options.partitions = partitions;
        Ok(())
    }

    /// Deletes the topic and waits until the brokers have forgotten it.
    pub async fn delete_topic(&self) -> Result<()> {
        let admin = std::sync::Arc::new(self.isolation.admin()?);
        for result in admin.delete_topics(&[&self.topic], &options()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("delete topic {topic}: {code}"))?;
        }
        wait_for("the topic to be gone", LIMIT, async || {
            let (admin, topic) = (admin.clone(), self.topic.clone());
            blocking("list topics", LIMIT, move || {
                let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(5))?;
                ensure!(
                    !metadata.topics().iter().any(|found| found.name() == topic),
                    "still there"
                );
                Ok(())
            })
            .await
        })
        .await
    }

    /// Creates the topic again, under its old name.
    pub async fn create_topic(&self) -> Result<()> {
        let name = self.topic.trim_start_matches(&self.isolation.topic_prefix());
        let settings = [("retention.ms", "-1"), ("max.message.bytes", "4194304")];
        self.isolation
            .create_topic(name, self.options.partitions, &settings)
            .await?;
        Ok(())
    }

    /// Deletes the consumer group, once it has no member any more, and with it all committed positions.
    pub async fn delete_group(&self) -> Result<()> {
        let (admin, group) = (self.isolation.admin()?, self.isolation.group());
        wait_for("the group to be deleted", LIMIT, async || {
            for result in admin.delete_groups(&[&group], &options()).await? {
                result.map_err(|(group, code)| anyhow::anyhow!("delete group {group}: {code}"))?;
            }
            anyhow::Ok(())
        })
        .await
    }

    /// Commits a position of one partition for the group, which has no member now.
    pub async fn commit(&self, partition: u16, offset: i64) -> Result<()> {
        let (brokers, group) = (self.isolation.kafka_brokers().to_owned(), self.isolation.group());
        let topic = self.topic.clone();
        blocking("commit by hand", LIMIT, move || {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("group.id", group)
                .create()?;
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, i32::from(partition), Offset::Offset(offset))?;
            consumer.commit(&list, CommitMode::Sync).context("commit")
        })
        .await
    }

    /// Returns the stops on record by partition.
    pub async fn stops(&self) -> Result<BTreeMap<u16, Stop>> {
        let rows = sqlx::query(
            "SELECT partition_number, reason, missing_from, missing_to FROM partition_stops WHERE topic = ?",
        )
        .bind(&self.topic)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let from: Option<u64> = row.try_get("missing_from")?;
                let to: Option<u64> = row.try_get("missing_to")?;
                let stop = (row.try_get("reason")?, from.zip(to));
                Ok((row.try_get("partition_number")?, stop))
            })
            .collect()
    }

    /// Returns the heartbeats' lines by partition: status and reason.
    pub async fn beats(&self) -> Result<BTreeMap<u16, (String, Option<String>)>> {
        let store = heartbeat::Store::new(self.redis.clone(), Duration::from_secs(5));
        let fleet = store.list(reprise_shared::clock::Clock::system().now()).await?;
        let lines = fleet.workers.into_iter().flat_map(|worker| worker.partitions);
        Ok(lines.map(|line| (line.partition, (line.status, line.reason))).collect())
    }

    /// Returns how many partitions each live worker reads, by its heartbeat.
    pub async fn owners(&self) -> Result<Vec<usize>> {
        let store = heartbeat::Store::new(self.redis.clone(), Duration::from_secs(5));
        let fleet = store.list(reprise_shared::clock::Clock::system().now()).await?;
        let reads = |worker: &heartbeat::Heartbeat| {
            let lines = worker.partitions.iter();
            lines.filter(|line| line.status == "running").count()
        };
        Ok(fleet.workers.iter().map(reads).collect())
    }

    /// Returns what `/readyz` of a worker says.
    pub async fn readyz(&self, number: usize) -> Result<(u16, String)> {
        let answer = reqwest::get(format!("{}/readyz", self.workers[number].http())).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Waits until exactly these partitions are stopped: on record, in the heartbeat and in `/readyz` of `worker`.
    pub async fn stopped(&self, worker: usize, expected: &BTreeMap<u16, Stop>) -> Result<()> {
        let waited = wait_for("stopped partitions", super::PATIENCE, async || {
            let stops = self.stops().await?;
            ensure!(stops == *expected, "on record: {stops:?}, expected: {expected:?}");
            let beats = self.beats().await?;
            let (code, ready) = self.readyz(worker).await?;
            ensure!(code == 503, "/readyz answers {code}: {ready}");
            for partition in 0..self.options.partitions {
                let Some((reason, missing)) = expected.get(&partition) else {
                    let status = beats.get(&partition).map(|(status, _)| status.as_str());
                    ensure!(status == Some("running"), "partition {partition} is {status:?}");
                    continue;
                };
                let missing = missing.map_or(String::new(), |(from, to)| format!("(missing: [{from}, {to}))"));
                let told = |text: &str| text.contains(reason) && text.contains(&missing);
                let beat = beats.get(&partition);
                ensure!(
                    beat.is_some_and(|(status, reason)| status == "stopped" && reason.as_deref().is_some_and(told)),
                    "heartbeat of partition {partition}: {beat:?}"
                );
                ensure!(told(&ready), "/readyz does not tell: {ready}");
            }
            Ok(())
        })
        .await;
        waited.with_context(|| self.log_of(worker))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(LIMIT))
        .request_timeout(Some(LIMIT))
}
