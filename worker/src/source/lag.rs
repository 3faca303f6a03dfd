//! How far each partition is behind, from the client's statistics.

use std::collections::HashMap;

use parking_lot::Mutex;
use rdkafka::statistics::Statistics;
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};

/// What the client knows of a partition.
#[derive(Clone, Copy, Debug)]
struct Known {
    end: Offset,
    /// Everything up to the end was fetched and handed over, as far as it is records.
    drained: bool,
}

/// The log's end per partition, as the client last saw it.
#[derive(Debug, Default)]
pub struct Lag(Mutex<HashMap<TopicPartition, Known>>);

impl Lag {
    /// Takes over what the statistics say; partitions that the client does not fetch are left out by it.
    pub fn update(&self, statistics: &Statistics) {
        let mut known = self.0.lock();
        for (topic, of_topic) in &statistics.topics {
            for (number, partition) in &of_topic.partitions {
                // With read_committed the end is the last stable offset.
                let end = if partition.ls_offset >= 0 {
                    partition.ls_offset
                } else {
                    partition.hi_offset
                };
                let drained = partition.fetchq_cnt == 0 && partition.next_offset >= end;
                if let (Some(number), Some(end)) = (Partition::from_kafka(*number), Offset::from_kafka(end)) {
                    let place = TopicPartition {
                        topic: TopicName::new(topic),
                        partition: number,
                    };
                    known.insert(place, Known { end, drained });
                }
            }
        }
    }

    /// Returns the offsets between a position and the last known end; `None` while no end is known. `idle`: nothing
    /// delivered is in flight; then a tail of transaction markers, which are never delivered, is no lag.
    pub fn behind(&self, partition: &TopicPartition, position: Offset, idle: bool) -> Option<u64> {
        let known = *self.0.lock().get(partition)?;
        Some(if idle && known.drained {
            0
        } else {
            known.end.0.saturating_sub(position.0)
        })
    }
}
