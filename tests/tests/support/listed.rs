//! The records of a topic, one by one, as a consumer of committed records sees them.

use std::time::Duration;

use anyhow::Result;
use reprise_tests::fleet::Fleet;
use reprise_tests::oracle::visit_topic;
use reprise_tests::wait::blocking;

/// One record of the topic.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) data_type: String,
    pub(crate) id: String,
    pub(crate) time: i64,
}

/// Reads the topic.
pub(crate) async fn records(fleet: &Fleet) -> Result<Vec<Record>> {
    let (brokers, topic) = (fleet.isolation.kafka_brokers().to_owned(), fleet.topic.clone());
    blocking("read the topic", Duration::from_secs(60), move || {
        let mut records = Vec::new();
        visit_topic(&brokers, &topic, |record| {
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            records.push(Record {
                partition: record.partition.0.into(),
                offset: record.offset.0,
                data_type: text(record.data_type),
                id: text(record.key),
                time: record.time.unwrap_or(-1),
            });
        })?;
        Ok(records)
    })
    .await
}
