//! Publishes records byte for byte: without a key, and with header names that no text can hold.

#![expect(
    unsafe_code,
    reason = "rdkafka takes header names as text only; each block says why it is sound"
)]

use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::bindings as native;
use rdkafka::producer::{BaseProducer, Producer};

use super::Fleet;
use crate::feed::{DATA_TYPE_HEADER, DataType};
use crate::wait::blocking;

/// A record, byte for byte.
#[derive(Clone, Debug, Default)]
pub struct RawRecord {
    /// The partition.
    pub partition: i32,
    /// The key; `None`: no key at all.
    pub key: Option<Vec<u8>>,
    /// The headers: names (without a zero byte) and values.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The payload; `None` for a tombstone.
    pub payload: Option<Vec<u8>>,
}

impl RawRecord {
    /// Makes a record of one data type.
    pub fn new(data_type: DataType, partition: i32, key: &str, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            partition,
            key: Some(key.into()),
            headers: vec![(DATA_TYPE_HEADER.into(), data_type.name().into())],
            payload: Some(payload.into()),
        }
    }
}

impl Fleet {
    /// Publishes records in their order and waits until all are in the topic.
    pub async fn send(&self, records: Vec<RawRecord>) -> Result<()> {
        let (brokers, topic) = (self.isolation.kafka_brokers().to_owned(), self.topic.clone());
        blocking("send records", Duration::from_secs(120), move || {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("acks", "all")
                .set("enable.idempotence", "true")
                .set("message.max.bytes", "4194304")
                .set("queue.buffering.max.messages", "1000000")
                // Late enough that records which are sent together arrive together.
                .set("linger.ms", "50")
                .create()
                .context("make a producer")?;
            let topic = CString::new(topic)?;
            for record in &records {
                produce(&producer, &topic, record)?;
            }
            producer.flush(Duration::from_secs(60)).context("deliver the records")
        })
        .await
    }
}

fn produce(producer: &BaseProducer, topic: &CString, record: &RawRecord) -> Result<()> {
    use native::rd_kafka_vtype_t as vtype;
    let none = native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    let names = record
        .headers
        .iter()
        .map(|(name, _)| CString::new(name.as_slice()))
        .collect::<Result<Vec<_>, _>>()?;
    let bytes = |bytes: &Option<Vec<u8>>| {
        bytes
            .as_ref()
            .map_or((ptr::null(), 0), |bytes| (bytes.as_ptr().cast::<c_void>(), bytes.len()))
    };
    let ((key, key_size), (payload, payload_size)) = (bytes(&record.key), bytes(&record.payload));
    // SAFETY: every tag is followed by the arguments that librdkafka documents for it, the list ends with END, and all
    // memory outlives the call, which copies it (F_COPY; headers are always copied). `rd_kafka_header_add` copies, too;
    // the headers belong to the message once the call succeeds, and to us when it fails.
    let answer = unsafe {
        let headers = native::rd_kafka_headers_new(names.len());
        for (name, (_, value)) in names.iter().zip(&record.headers) {
            native::rd_kafka_header_add(
                headers,
                name.as_ptr(),
                -1,
                value.as_ptr().cast(),
                isize::try_from(value.len())?,
            );
        }
        let answer = native::rd_kafka_producev(
            producer.client().native_ptr(),
            vtype::RD_KAFKA_VTYPE_TOPIC as c_int,
            topic.as_ptr(),
            vtype::RD_KAFKA_VTYPE_PARTITION as c_int,
            record.partition,
            vtype::RD_KAFKA_VTYPE_MSGFLAGS as c_int,
            native::RD_KAFKA_MSG_F_COPY as c_int,
            vtype::RD_KAFKA_VTYPE_KEY as c_int,
            key,
            key_size,
            vtype::RD_KAFKA_VTYPE_VALUE as c_int,
            payload,
            payload_size,
            vtype::RD_KAFKA_VTYPE_HEADERS as c_int,
            headers,
            vtype::RD_KAFKA_VTYPE_END as c_int,
        );
        if answer != none {
            native::rd_kafka_headers_destroy(headers);
        }
        answer
    };
    ensure!(answer == none, "librdkafka refuses a record: {answer:?}");
    Ok(())
}
