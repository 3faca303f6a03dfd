//! Transactions of a producer: committed, aborted, or left open.

use std::time::Duration;

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::Fleet;
use crate::feed::FeedRecord;
use crate::wait::blocking;

const LIMIT: Duration = Duration::from_secs(60);

impl Fleet {
    /// Writes transactions one after the other (`true`: committed, `false`: aborted), and leaves a last one open if `open`
    /// has records, for as long as the producer that is returned lives.
    pub async fn transactions(
        &self,
        id: &str,
        transactions: Vec<(bool, Vec<FeedRecord>)>,
        open: Vec<FeedRecord>,
    ) -> Result<BaseProducer> {
        let (brokers, topic) = (self.isolation.kafka_brokers().to_owned(), self.topic.clone());
        let id = format!("{topic}-{id}");
        blocking("write transactions", LIMIT, move || {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("transactional.id", id)
                .create()?;
            producer.init_transactions(LIMIT)?;
            for (commit, records) in &transactions {
                producer.begin_transaction()?;
                send(&producer, &topic, records)?;
                if *commit {
                    producer.commit_transaction(LIMIT)?;
                } else {
                    producer.abort_transaction(LIMIT)?;
                }
            }
            if !open.is_empty() {
                producer.begin_transaction()?;
                send(&producer, &topic, &open)?;
            }
            Ok(producer)
        })
        .await
    }
}

fn send(producer: &BaseProducer, topic: &str, records: &[FeedRecord]) -> Result<()> {
    for record in records {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                let value = Some(*value);
                headers.insert(Header { key, value })
            });
        let message = BaseRecord::to(topic)
            .partition(record.partition.unwrap_or(0))
            .key(&record.key)
            .timestamp(record.timestamp_ms)
            .payload(record.payload.as_deref().unwrap_or_default())
            .headers(headers);
        producer.send(message).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(LIMIT)?)
}
