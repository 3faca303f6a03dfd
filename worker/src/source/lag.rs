//! How far each partition is behind, from the client's statistics.

use std::collections::HashMap;

use parking_lot::Mutex;
use rdkafka::statistics::Statistics;
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};

/// The log's end per partition, as the client last saw it.
#[derive(Debug, Default)]
pub struct Lag(Mutex<HashMap<TopicPartition, Offset>>);

impl Lag {
    /// Takes over what the statistics say; partitions that the client does not fetch are left out by it.
    pub fn update(&self, statistics: &Statistics) {
        let mut ends = self.0.lock();
        for (topic, of_topic) in &statistics.topics {
            for (number, partition) in &of_topic.partitions {
                // With read_committed the end is the last stable offset.
                let end = if partition.ls_offset >= 0 {
                    partition.ls_offset
                } else {
                    partition.hi_offset
                };
                if let (Some(number), Some(end)) = (Partition::from_kafka(*number), Offset::from_kafka(end)) {
                    ends.insert(
                        TopicPartition {
                            topic: TopicName::new(topic),
                            partition: number,
                        },
                        end,
                    );
                }
            }
        }
    }

    /// Returns the records between a position and the last known end; `None` while no end is known.
    pub fn behind(&self, partition: &TopicPartition, position: Offset) -> Option<u64> {
        self.0.lock().get(partition).map(|end| end.0.saturating_sub(position.0))
    }
}
