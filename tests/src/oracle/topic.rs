//! Reads a topic once, from end to end, with a consumer that joins no group.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset as Start, TopicPartitionList};
use reprise_shared::kafka::headers::for_each;
use reprise_shared::position::{Offset, Partition};

use crate::feed::DATA_TYPE_HEADER;

/// How long the broker may take to answer a question.
const ANSWER: Duration = Duration::from_secs(30);
/// How long nothing at all may arrive while records are due.
const SILENCE: Duration = Duration::from_secs(60);

/// One record as it stands in the topic.
#[derive(Clone, Copy, Debug)]
pub struct TopicRecord<'a> {
    /// The partition.
    pub partition: Partition,
    /// The offset.
    pub offset: Offset,
    /// The record's own time, in milliseconds since 1970.
    pub time: Option<i64>,
    /// The value of the last `data-type` header.
    pub data_type: Option<&'a [u8]>,
    /// The Kafka key.
    pub key: Option<&'a [u8]>,
    /// The payload; `None` for a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// Visits every record from the low to the high watermarks, which are taken first: partition by partition, in the
/// order of offsets. Blocks.
///
/// # Errors
/// The topic does not exist, its end falls back while it is read, or nothing arrives for a minute.
pub fn read(brokers: &str, topic: &str, mut visit: impl FnMut(&TopicRecord<'_>)) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        // The library asks for one; without a subscription or a commit the group never exists.
        .set("group.id", "reprise-oracle")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("fetch.queue.backoff.ms", "10")
        .create()
        .context("make the consumer")?;
    let metadata = consumer
        .fetch_metadata(Some(topic), ANSWER)
        .context("ask for the topic's partitions")?;
    let found = metadata
        .topics()
        .first()
        .context("the broker does not know the topic")?;
    ensure!(found.error().is_none(), "the broker does not know the topic {topic}");
    let mut slices = Vec::new();
    for partition in found.partitions() {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition.id(), ANSWER)
            .context("ask for watermarks")?;
        slices.push(Slice {
            topic,
            partition: partition.id(),
            low,
            high,
        });
    }
    slices.sort_unstable_by_key(|slice| slice.partition);
    for slice in slices.iter().filter(|slice| slice.low < slice.high) {
        slice
            .read(&consumer, &mut visit)
            .with_context(|| format!("read partition {}", slice.partition))?;
    }
    Ok(())
}

/// A part of one partition.
struct Slice<'a> {
    topic: &'a str,
    partition: i32,
    low: i64,
    high: i64,
}

impl Slice<'_> {
    fn read(&self, consumer: &BaseConsumer, visit: &mut impl FnMut(&TopicRecord<'_>)) -> anyhow::Result<()> {
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(self.topic, self.partition, Start::Offset(self.low))?;
        consumer.assign(&assignment).context("assign the partition")?;
        loop {
            match consumer.poll(SILENCE) {
                // A late answer for the partition before this one.
                Some(Ok(message)) if message.partition() != self.partition => {}
                Some(Ok(message)) => {
                    if message.offset() < self.high {
                        visit_message(&message, visit)?;
                    }
                    if message.offset() + 1 >= self.high {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) if partition == self.partition => {
                    // Markers of transactions may be all that is left, but the log must not have become shorter.
                    let (_, high) = consumer.fetch_watermarks(self.topic, self.partition, ANSWER)?;
                    ensure!(
                        high >= self.high,
                        "the log's end fell back from {} to {high}",
                        self.high
                    );
                    return Ok(());
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => return Err(error).context("poll"),
                None => bail!("nothing arrived for {SILENCE:?}"),
            }
        }
    }
}

fn visit_message(message: &BorrowedMessage<'_>, visit: &mut impl FnMut(&TopicRecord<'_>)) -> anyhow::Result<()> {
    // Not with rdkafka's own iterator, which panics on a name that is not UTF-8.
    let mut data_type = None;
    for_each(message, |name, value| {
        if name == DATA_TYPE_HEADER.as_bytes() {
            data_type = value.map(<[u8]>::to_vec);
        }
    });
    visit(&TopicRecord {
        partition: Partition::from_kafka(message.partition()).context("a partition number is beyond 65,535")?,
        offset: Offset::from_kafka(message.offset()).context("an offset is negative")?,
        time: message.timestamp().to_millis(),
        data_type: data_type.as_deref(),
        key: message.key(),
        payload: message.payload(),
    });
    Ok(())
}
