//! One pass of a bare consumer over the topic, with the worker's client settings: what the client library alone can.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};
use reprise_shared::clock::Clock;
use reprise_tests::kernel::own_cpu_seconds;

use crate::ground::{Ground, PARTITIONS};

/// The client may be silent for this long.
const SILENCE: Duration = Duration::from_secs(30);

/// What a pass took.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Consumed {
    /// Seconds from the first record to the last.
    pub seconds: f64,
    /// CPU seconds of this process per million records.
    pub cpu_seconds_per_million: f64,
}

/// Reads every record of the topic once and shows it to `each`. Blocks.
pub fn consume(ground: &Ground, mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>) -> Result<Consumed> {
    let clock = Clock::system();
    let config = ground.consumer_config(&format!("{}.bare", ground.fleet.isolation.group()));
    let consumer: BaseConsumer = config.create().context("make a consumer")?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(&ground.fleet.topic, i32::from(partition), Offset::Offset(0))?;
    }
    consumer.assign(&list).context("assign the topic")?;
    let mut first = None;
    let mut count = 0;
    let mut heard = clock.monotonic();
    while count < ground.records {
        match consumer.poll(Duration::from_millis(20)) {
            Some(message) => {
                let message = message.context("read the topic")?;
                if first.is_none() {
                    first = Some((clock.monotonic(), own_cpu_seconds()?));
                }
                each(&message)?;
                count += 1;
                // A clock for every record would be a part of what is measured.
                if count % 1_024 == 0 {
                    heard = clock.monotonic();
                }
            }
            None => ensure!(clock.monotonic() < heard + SILENCE, "only {count} records were read"),
        }
    }
    let (begun, cpu) = first.context("the topic is empty")?;
    Ok(Consumed {
        seconds: clock.monotonic().saturating_sub(begun).as_secs_f64(),
        cpu_seconds_per_million: (own_cpu_seconds()? - cpu) * 1e6 / ground.records as f64,
    })
}
