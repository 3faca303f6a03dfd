//! Reads records of Kafka where they stand: assigned, without a group, and nothing committed, so the broker lists no
//! group because of it.
//!
//! A partition's interval is read to the end when a record at or above it, the end of the log, or a position at or
//! above it was seen: offsets have gaps, from compaction and transactions. The client's automatic reset is never used.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset as Mark, TopicPartitionList};
use rdkafka::{ClientConfig, Message as _};
use reprise_shared::clock::Clock;
use reprise_shared::kafka::client::consumer_config;
use reprise_shared::kafka::headers;
use reprise_shared::ledger::Interval;
use reprise_shared::matching::TopicPlan;
use reprise_shared::position::{Offset, TopicPartition};

use super::record::Record;
use crate::kafka::{self, Kafka};

/// The longest wait for one record; the time limit is looked at in between.
const POLL: Duration = Duration::from_millis(50);
/// What the client may fetch ahead, in KiB.
const QUEUE_KIB: &str = "4096";

/// Why records could not be read. All are transient.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client failed.
    #[error("{what}")]
    Client {
        /// Which call.
        what: &'static str,
        /// Why.
        #[source]
        source: KafkaError,
    },
    /// Retention deleted what was about to be read.
    #[error("the log of {0} was cut while it was read")]
    Cut(TopicPartition),
    /// The thread ended without an answer: it panicked, or the process ends.
    #[error("the reading thread ended")]
    Gone,
}

/// How far reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// Everything was read that was to be.
    End,
    /// The taker had enough.
    Enough,
    /// The records or the time of one question were used up.
    Limit,
}

/// What may be read at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) records: u64,
    pub(super) time: Duration,
}

/// Reads records.
#[derive(Clone)]
pub(super) struct Reader {
    config: ClientConfig,
    clock: Clock,
}

/// Ends the reading thread when nobody waits for it any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Reader {
    pub(super) fn new(kafka: &Kafka, clock: Clock) -> Self {
        // A group of its own name, which it never joins: a mistake could not touch the workers' one.
        let mut config = consumer_config(kafka.config(), &format!("{}-explain", kafka.group()));
        config
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", QUEUE_KIB);
        Self { config, clock }
    }

    /// Reads intervals of one partition each, in their order, and hands every record to `take`, which may break off.
    ///
    /// Blocks a thread meant for that. Cancel-safe: the thread ends within a moment.
    ///
    /// # Errors
    /// When Kafka does not answer as it should.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        plan: Arc<TopicPlan>,
        intervals: Vec<(TopicPartition, Interval)>,
        budget: Budget,
        mut taken: T,
        mut take: impl FnMut(&mut T, Message<'_, '_>) -> ControlFlow<()> + Send + 'static,
    ) -> Result<(T, Reached), Error> {
        let given_up = Arc::new(AtomicBool::new(false));
        let _waiting = Waiting(Arc::clone(&given_up));
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let thread = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create().map_err(|source| Error::Client {
                what: "make a reading client",
                source,
            })?;
            let mut run = Run {
                consumer,
                plan: &plan,
                until: clock.monotonic() + budget.time,
                records: budget.records,
                given_up: &given_up,
                clock: &clock,
            };
            for (at, interval) in intervals {
                let reached = run.interval(&at, interval, &mut |message| take(&mut taken, message))?;
                if reached != Reached::End {
                    return Ok((taken, reached));
                }
            }
            Ok((taken, Reached::End))
        });
        thread.await.map_err(|_| Error::Gone)?
    }
}

/// A delivered record, not copied yet.
pub(super) struct Message<'m, 'p> {
    message: &'m BorrowedMessage<'m>,
    plan: &'p TopicPlan,
    at: &'p TopicPartition,
    pub(super) offset: Offset,
}

impl Message<'_, '_> {
    /// Returns Kafka's time in milliseconds since 1970.
    pub(super) fn time(&self) -> Option<i64> {
        self.message.timestamp().to_millis().filter(|time| *time >= 0)
    }

    /// Returns the key.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.message.key()
    }

    /// Returns how many bytes a copy needs.
    pub(super) fn size(&self) -> usize {
        self.message.key_len() + self.message.payload_len()
    }

    /// Copies the record.
    pub(super) fn record(&self) -> Record {
        let mut matching = self.plan.begin();
        headers::for_each(self.message, |name, value| matching.header(name, value));
        Record {
            at: self.at.clone(),
            offset: self.offset,
            time: self.time(),
            key: self.message.key().map(<[u8]>::to_vec),
            payload: self.message.payload().map(<[u8]>::to_vec),
            matched: matching.finish(),
        }
    }
}

/// One question's reading.
struct Run<'r> {
    consumer: BaseConsumer,
    plan: &'r TopicPlan,
    until: Duration,
    records: u64,
    given_up: &'r AtomicBool,
    clock: &'r Clock,
}

impl Run<'_> {
    fn interval(
        &mut self,
        at: &TopicPartition,
        interval: Interval,
        take: &mut dyn FnMut(Message<'_, '_>) -> ControlFlow<()>,
    ) -> Result<Reached, Error> {
        if interval.is_empty() {
            return Ok(Reached::End);
        }
        self.assign(at, interval.start)?;
        loop {
            if self.records == 0 || self.clock.monotonic() >= self.until || self.given_up.load(Ordering::Relaxed) {
                return Ok(Reached::Limit);
            }
            match self.consumer.poll(POLL) {
                None => {
                    if self.position(at)? >= Some(interval.end) {
                        return Ok(Reached::End);
                    }
                }
                Some(Ok(message)) => {
                    let offset = Offset::from_kafka(message.offset()).unwrap_or_default();
                    if message.partition() != at.partition.to_kafka() || offset < interval.start {
                        continue;
                    }
                    if offset >= interval.end {
                        return Ok(Reached::End);
                    }
                    self.records -= 1;
                    let message = Message {
                        message: &message,
                        plan: self.plan,
                        at,
                        offset,
                    };
                    if take(message).is_break() {
                        return Ok(Reached::Enough);
                    }
                    if offset.next() >= interval.end {
                        return Ok(Reached::End);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) if partition == at.partition.to_kafka() => {
                    return Ok(Reached::End);
                }
                Some(Err(error)) => self.judge(at, error)?,
            }
        }
    }

    fn assign(&self, at: &TopicPartition, start: Offset) -> Result<(), Error> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(
            at.topic.as_str(),
            at.partition.to_kafka(),
            Mark::Offset(start.to_kafka()),
        )
        .and_then(|()| self.consumer.assign(&list))
        .map_err(|source| Error::Client {
            what: "assign a partition",
            source,
        })
    }

    fn position(&self, at: &TopicPartition) -> Result<Option<Offset>, Error> {
        let positions = self.consumer.position().map_err(|source| Error::Client {
            what: "ask for the position",
            source,
        })?;
        let element = positions.find_partition(at.topic.as_str(), at.partition.to_kafka());
        Ok(element.and_then(|element| match element.offset() {
            Mark::Offset(offset) => Offset::from_kafka(offset),
            _ => None,
        }))
    }

    /// Decides over an error that the client told between records.
    fn judge(&self, at: &TopicPartition, error: KafkaError) -> Result<(), Error> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Err(Error::Cut(at.clone())),
            // The end of a partition that was read before, and a group that it does not need.
            Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::GroupAuthorizationFailed) => Ok(()),
            // The client connects again by itself, within the time limit.
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown) => Ok(()),
            _ => Err(Error::Client {
                what: "read records",
                source: error,
            }),
        }
    }
}

impl From<Error> for kafka::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Client { what, source } => Self::Call { what, source },
            Error::Cut(_) => Self::Incomplete("read records that retention deletes"),
            Error::Gone => Self::Incomplete("read records"),
        }
    }
}
