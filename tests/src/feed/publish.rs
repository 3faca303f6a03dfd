//! Publishes a feed to Kafka, fast, with bounded memory and without hiding a failed delivery.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::{Feed, FeedRecord};

/// At most this many records wait for their delivery.
const IN_FLIGHT_RECORDS: &str = "100000";
/// At most this many KiB wait for their delivery.
const IN_FLIGHT_KIB: &str = "65536";
/// After so many records deliveries are collected and the pace and the caller are asked.
const ROUND: u64 = 256;
/// How long the last deliveries may take; beyond `message.timeout.ms`, so that each has an answer.
const LAST_DELIVERIES: Duration = Duration::from_secs(70);
/// How long one wait for room in the queue or for the pace lasts at most.
const WAIT: Duration = Duration::from_millis(10);

/// Where to publish to.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The brokers, as `host:port` separated by commas.
    pub brokers: String,
    /// The topic, which must exist.
    pub topic: String,
    /// Whether [`Report::places`] is filled: 16 bytes a record.
    pub keep_places: bool,
}

/// A rate that is not exceeded. `elapsed` is a monotonic clock.
#[derive(Clone, Copy)]
pub struct Pace<'a> {
    /// Records per second, at least 1.
    pub per_second: u32,
    /// The time since any fixed point.
    pub elapsed: &'a dyn Fn() -> Duration,
}

impl Pace<'_> {
    fn allows(&self, sent: u64, since: Duration) -> bool {
        let passed = (self.elapsed)().saturating_sub(since);
        passed.as_secs_f64() * f64::from(self.per_second) >= sent as f64
    }
}

/// How far publishing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records handed to the client library.
    pub sent: u64,
    /// Records that the brokers acknowledged.
    pub delivered: u64,
    /// Records that were not delivered.
    pub failed: u64,
}

/// Where a record came to stand in the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

/// What became of the records.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The final counts: every record that was sent is either delivered or failed.
    pub counts: Progress,
    /// The first delivery error, as the client library words it.
    pub first_error: Option<String>,
    /// With [`Destination::keep_places`]: each record's place, in the order of the feed; `None` when it failed.
    pub places: Vec<Option<Place>>,
}

/// Publishes all records of a feed, or those until `on_progress` (called every few hundred records) breaks off.
///
/// Blocks: call it from a thread of its own. A failed delivery is counted and does not end the run; the caller
/// decides by [`Report::counts`].
///
/// # Errors
/// The producer cannot be made, a record is refused for another reason than a full queue, or the last deliveries have
/// no answer in time.
pub fn publish(
    records: impl IntoFeed,
    destination: &Destination,
    pace: Option<Pace<'_>>,
    mut on_progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> anyhow::Result<Report> {
    ensure!(
        pace.is_none_or(|pace| pace.per_second > 0),
        "a pace must be at least one record per second"
    );
    let mut next = records.into_feed();
    let deliveries = Deliveries::new(destination.keep_places);
    let producer = producer(&destination.brokers, deliveries)?;
    let since = pace.map_or(Duration::ZERO, |pace| (pace.elapsed)());
    let mut record = FeedRecord::empty();
    let mut sent = 0;
    while next(&mut record) {
        send(&producer, &destination.topic, &record, sent)?;
        sent += 1;
        let must_wait = || pace.is_some_and(|pace| !pace.allows(sent, since));
        if sent % ROUND == 0 || must_wait() {
            producer.poll(Duration::ZERO);
            if on_progress(producer.context().progress(sent)).is_break() {
                break;
            }
            while must_wait() {
                producer.poll(WAIT);
            }
        }
    }
    producer
        .flush(LAST_DELIVERIES)
        .context("wait for the last deliveries")?;
    Ok(producer.context().report(sent))
}

/// What can be published: a [`Feed`] (without allocating for each record), or any iterator of records boxed as
/// `Box<dyn Iterator<Item = FeedRecord>>`.
pub trait IntoFeed {
    /// Returns a function that overwrites its argument with the next record; `false` at the end.
    fn into_feed(self) -> impl FnMut(&mut FeedRecord) -> bool;
}

impl IntoFeed for Feed {
    fn into_feed(mut self) -> impl FnMut(&mut FeedRecord) -> bool {
        move |record| self.next_into(record)
    }
}

impl IntoFeed for Box<dyn Iterator<Item = FeedRecord> + '_> {
    fn into_feed(mut self) -> impl FnMut(&mut FeedRecord) -> bool {
        move |record| match self.next() {
            Some(next) => {
                *record = next;
                true
            }
            None => false,
        }
    }
}

fn producer(brokers: &str, deliveries: Deliveries) -> anyhow::Result<BaseProducer<Deliveries>> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "false")
        .set("linger.ms", "10")
        .set("batch.size", "262144")
        .set("message.max.bytes", "4194304")
        .set("message.timeout.ms", "60000")
        .set("max.in.flight.requests.per.connection", "5")
        .set("queue.buffering.max.messages", IN_FLIGHT_RECORDS)
        .set("queue.buffering.max.kbytes", IN_FLIGHT_KIB)
        // What Kafka's own clients do with a key.
        .set("partitioner", "murmur2_random")
        .create_with_context(deliveries)
        .context("make the producer")
}

/// Hands one record over, waiting while the queue is full.
fn send(producer: &BaseProducer<Deliveries>, topic: &str, record: &FeedRecord, sequence: u64) -> anyhow::Result<()> {
    let opaque = usize::try_from(sequence).context("count the records")?;
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for &(key, value) in record.headers {
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    let mut message = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, opaque)
        .key(&record.key)
        .timestamp(record.timestamp_ms)
        .headers(headers);
    message.payload = record.payload.as_deref();
    message.partition = record.partition;
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                producer.poll(WAIT);
                message = unsent;
            }
            Err((error, _)) => return Err(error).context(format!("send record {sequence} of the feed")),
        }
    }
}

/// Collects the answers of the brokers.
struct Deliveries {
    keep_places: bool,
    state: Mutex<Report>,
}

impl Deliveries {
    fn new(keep_places: bool) -> Self {
        Self {
            keep_places,
            state: Mutex::default(),
        }
    }

    fn progress(&self, sent: u64) -> Progress {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Progress { sent, ..state.counts }
    }

    fn report(&self, sent: u64) -> Report {
        let mut report = std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner));
        report.counts.sent = sent;
        report
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sequence: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match result {
            Ok(message) => {
                state.counts.delivered += 1;
                Some(Place {
                    partition: message.partition(),
                    offset: message.offset(),
                })
            }
            Err((error, _)) => {
                state.counts.failed += 1;
                state.first_error.get_or_insert_with(|| error.to_string());
                None
            }
        };
        if self.keep_places {
            if state.places.len() <= sequence {
                state.places.resize(sequence + 1, None);
            }
            state.places[sequence] = place;
        }
    }
}
