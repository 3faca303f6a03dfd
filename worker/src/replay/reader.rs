//! The thread of one task that reads its slice: offsets are assigned, no group is joined, nothing is committed.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, TopicPartitionList};
use reprise_shared::clock::Clock;
use reprise_shared::kafka::headers;
use reprise_shared::position::Offset;
use reprise_shared::whitelist::Snapshot;
use tokio_util::sync::CancellationToken;

use super::consumer::{self, TaskConsumer};
use super::delivered::Delivered;
use super::end::{Delivery, Next, Reading, Why};
use super::pacer::Pacer;
use crate::budget::Budget;
use crate::chunk::Chunk;
use crate::judge::Judge;
use crate::source::builder::{self, Builder};
use crate::source::intake::{Intake, Open};

/// A chunk that is not full is sealed after this long. Nobody waits for single records here.
const CHUNK_LINGER: Duration = Duration::from_millis(50);
/// The longest wait in one step; whether to stop is looked at in between.
const STEP: Duration = Duration::from_millis(20);
/// The time between two questions to a broker whose answer is doubtful.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Why the attempt failed; the task is given back and tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The client can not go on.
    #[error("the kafka client failed for good")]
    Fatal(#[source] KafkaError),
    /// The client met a batch that it cannot read, and would go on behind it.
    #[error("kafka delivered a batch that the client cannot read")]
    Unreadable(#[source] KafkaError),
    /// The client refuses the assignment.
    #[error("assign the partition")]
    Assign(#[source] KafkaError),
    /// The decode thread is gone.
    #[error("the decode thread has ended")]
    PipelineGone,
}

/// How the reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything up to the slice's end was delivered.
    Done,
    /// Some of it is missing; everything before that was delivered.
    Missing {
        start: Offset,
        end: Offset,
        reason: reprise_shared::jobs::MissingReason,
    },
    /// It was told to stop.
    Stopped,
}

/// What a reader is connected to.
pub(super) struct Wiring {
    /// Sealed chunks in delivered order.
    pub(super) delivered: Delivered,
    /// Sealed chunks go here.
    pub(super) chunks: Sender<Arc<Chunk>>,
    /// The bound on what is in flight.
    pub(super) budget: Arc<Budget>,
    /// The task's pace.
    pub(super) pacer: Pacer,
    /// Who passes the filter.
    pub(super) ids: Arc<Snapshot>,
    /// Time.
    pub(super) clock: Clock,
    /// Ends the reading.
    pub(super) stop: CancellationToken,
    /// How long one question to the broker may take.
    pub(super) call: Duration,
}

/// Reads one slice, or the rest of it.
pub(super) struct Reader<J> {
    /// Dropped first: decode ends when it is gone, and dropping the client may take seconds.
    wiring: Wiring,
    consumer: TaskConsumer,
    intake: Intake<J>,
    open: Open,
    reading: Reading,
    /// Of keys and payloads in the open chunk.
    bytes: u64,
}

impl<J: Judge> Reader<J> {
    pub(super) fn new(consumer: TaskConsumer, wiring: Wiring, intake: Intake<J>, open: Open, reading: Reading) -> Self {
        Self {
            consumer,
            wiring,
            intake,
            open,
            reading,
            bytes: 0,
        }
    }

    /// Reads until the end, until something is missing, or until told to stop. What was delivered is handed on.
    pub(super) fn run(mut self) -> Result<Ended, Error> {
        if let Some(ended) = self.ask(Why::Start)? {
            return Ok(ended);
        }
        loop {
            if self.wiring.stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
            if self.wiring.pacer.is_held() || self.wiring.budget.is_full() {
                self.seal()?;
                std::thread::sleep(STEP);
                continue;
            }
            if let Some(ended) = self.poll()? {
                return Ok(ended);
            }
            let now = self.wiring.clock.monotonic();
            let aged = |builder: &Builder| builder.is_full() || builder.begun() + CHUNK_LINGER <= now;
            if self.open.builder.as_ref().is_some_and(aged) {
                self.seal()?;
            }
        }
    }

    /// Polls once. `Some`: the reading ended.
    fn poll(&mut self) -> Result<Option<Ended>, Error> {
        let polled = match self.consumer.poll(STEP) {
            Some(Ok(message)) => {
                let offset = Offset::from_kafka(message.offset());
                let delivery = offset.map_or(Delivery::Repeated, |offset| self.reading.delivered(offset));
                if matches!(delivery, Delivery::Within | Delivery::Last) {
                    self.bytes += (message.key_len() + message.payload_len()) as u64;
                    take(&mut self.intake, &mut self.open, &self.wiring, &message);
                }
                Polled::Record(delivery)
            }
            Some(Err(error)) => judge_error(error)?,
            // The client passes over what is never delivered without a word: only its position tells.
            None if consumer::position(&self.consumer, &self.open.partition) >= Some(self.reading.end()) => {
                Polled::Ask(Why::EndOfLog)
            }
            None => Polled::Nothing,
        };
        match polled {
            Polled::Nothing | Polled::Record(Delivery::Repeated) => Ok(None),
            Polled::Record(Delivery::Within) => {
                self.pace();
                Ok(None)
            }
            Polled::Record(Delivery::Last | Delivery::Beyond) => {
                self.seal()?;
                Ok(Some(Ended::Done))
            }
            Polled::Ask(why) => {
                self.seal()?;
                self.ask(why)
            }
        }
    }

    /// Waits until the next record may be read.
    fn pace(&self) {
        while let Some(wait) = self.wiring.pacer.take() {
            if self.wiring.stop.is_cancelled() {
                return;
            }
            std::thread::sleep(wait.min(STEP));
        }
    }

    /// Asks the broker, again and again while the answer is doubtful, and does what follows from it.
    fn ask(&mut self, why: Why) -> Result<Option<Ended>, Error> {
        loop {
            if self.wiring.stop.is_cancelled() {
                return Ok(Some(Ended::Stopped));
            }
            let next = match consumer::log(
                &self.consumer,
                &self.open.partition,
                &self.open.stretch.topic_id,
                self.wiring.call,
            ) {
                Ok(log) => self.reading.answered(why, log, self.wiring.clock.monotonic()),
                Err(reason) => {
                    tracing::warn!(reason, partition = %self.open.partition, "kafka does not answer");
                    Next::Wait
                }
            };
            match next {
                Next::Read => {
                    self.assign()?;
                    return Ok(None);
                }
                Next::Wait => std::thread::sleep(ASK_AGAIN),
                Next::Done => return Ok(Some(Ended::Done)),
                Next::Missing { start, end, reason } => return Ok(Some(Ended::Missing { start, end, reason })),
            }
        }
    }

    /// Reads from the next expected position. A fresh assignment also wakes a client that fell silent.
    fn assign(&mut self) -> Result<(), Error> {
        let partition = &self.open.partition;
        let at = rdkafka::Offset::Offset(self.reading.expected().to_kafka());
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(partition.topic.as_str(), partition.partition.to_kafka(), at)
            .and_then(|()| self.consumer.assign(&list))
            .map_err(Error::Assign)
    }

    /// Hands the open chunk on, waiting for room as long as it takes.
    fn seal(&mut self) -> Result<(), Error> {
        let Some(builder) = self.open.builder.take() else {
            return Ok(());
        };
        let wiring = &self.wiring;
        let delivered_at = wiring.clock.now().as_millisecond();
        let mut chunk = builder.seal(Arc::clone(&self.open.stretch), delivered_at, Arc::clone(&wiring.budget));
        wiring
            .delivered
            .push(chunk.completion(), std::mem::take(&mut self.bytes));
        loop {
            match wiring.chunks.send_timeout(chunk, STEP) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) if !wiring.stop.is_cancelled() => chunk = back,
                // It never completes, and so nothing moves over it.
                Err(SendTimeoutError::Timeout(_)) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) if wiring.stop.is_cancelled() => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return Err(Error::PipelineGone),
            }
        }
    }
}

/// What one poll came to.
enum Polled {
    Nothing,
    Record(Delivery),
    Ask(Why),
}

/// Decides what an error of the client means.
fn judge_error(error: KafkaError) -> Result<Polled, Error> {
    match error {
        KafkaError::PartitionEOF(_) => Ok(Polled::Ask(Why::EndOfLog)),
        KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => Ok(Polled::Ask(Why::OutOfRange)),
        KafkaError::MessageConsumptionFatal(_) => Err(Error::Fatal(error)),
        KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::NotImplemented) => {
            Err(Error::Unreadable(error))
        }
        error => {
            tracing::warn!(%error, "kafka poll");
            Ok(Polled::Nothing)
        }
    }
}

/// Takes a record of the slice into the open chunk.
fn take<J: Judge>(intake: &mut Intake<J>, open: &mut Open, wiring: &Wiring, message: &BorrowedMessage<'_>) {
    let Some(offset) = Offset::from_kafka(message.offset()) else {
        return;
    };
    let record = builder::Delivered {
        offset,
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key(),
        payload: message.payload(),
        headers: &[],
    };
    if open.builder.is_none() {
        let now = wiring.clock.monotonic();
        // A chunk begins where the one before ended, whatever gaps the offsets have.
        open.builder = Some(Builder::new(open.expected, Arc::clone(&wiring.ids), now));
    }
    intake.take(open, record, |each| headers::for_each(message, each));
}
