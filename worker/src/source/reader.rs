//! The poll thread: it polls, sorts records into chunks, hands them on, and does what the coordinator asks.
//!
//! It makes no call that can block for long. What waits (for room, for a drain) waits here with a limit.

mod orders;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use reprise_shared::clock::Clock;
use reprise_shared::kafka::headers;
use reprise_shared::matching::TopicPlan;
use reprise_shared::position::{Offset, TopicPartition};
use reprise_shared::whitelist;
use tokio::sync::mpsc;

use super::admission;
use super::builder::{Builder, Delivered};
use super::gate::Gate;
use super::intake::{Intake, Open};
use super::partition::{Epoch, Partitions};
use super::rebalance::{LiveConsumer, list};
use crate::budget::Budget;
use crate::chunk::{Chunk, Stretch};
use crate::metrics;
use crate::progress::tick::{Backlog, Finish};

/// Lack of room is waited out this long before everything is paused; pausing drops what was prefetched.
const PATIENCE: Duration = Duration::from_millis(200);
/// A chunk that is not full is sealed after this long.
const CHUNK_LINGER: Duration = Duration::from_millis(5);
/// The longest wait in one poll; commands are looked at in between.
const POLL_WAIT: Duration = Duration::from_millis(20);
/// Housekeeping happens at least once in so many records.
const RECORDS_BETWEEN_CHORES: usize = 256;

/// Why the poll thread ended early. Both end the process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client can not go on.
    #[error("kafka client failed for good")]
    Fatal(#[source] KafkaError),
    /// The client met a batch that it cannot read, and would go on behind it.
    #[error("kafka delivered a batch that the client cannot read; going on would pass over its records")]
    Unreadable(#[source] KafkaError),
    /// The whitelist was never known. The worker waits for it before it joins the group, so this is a fault of ours.
    #[error("a record was delivered before the whitelist was known")]
    WhitelistUnknown,
    /// The pipeline behind the reader is gone.
    #[error("the decode stage has ended")]
    PipelineGone,
}

/// What others ask of the reader.
#[derive(Debug)]
pub enum Command {
    /// Read a partition from a position.
    Admit {
        /// The partition.
        partition: TopicPartition,
        /// The assignment that this is for.
        epoch: Epoch,
        /// What its chunks have in common.
        stretch: Arc<Stretch>,
        /// Where to begin.
        start: Offset,
    },
    /// Do not read a partition any more; its stop is on record.
    Stop {
        /// The partition.
        partition: TopicPartition,
        /// The assignment that this is for.
        epoch: Epoch,
    },
    /// Read a partition on from where it is: the client may have fallen silent over it.
    ReadAnew {
        /// The partition.
        partition: TopicPartition,
        /// The assignment that this is for.
        epoch: Epoch,
    },
    /// Finish and end.
    ShutDown,
}

/// What the reader is connected to.
#[derive(Debug)]
pub struct Wiring {
    /// Owned partitions.
    pub partitions: Partitions,
    /// What others ask.
    pub commands: Receiver<Command>,
    /// Sealed chunks go here.
    pub chunks: Sender<Arc<Chunk>>,
    /// Partitions that wait for admission.
    pub admission: mpsc::Sender<admission::Event>,
    /// Drains before partitions are given up.
    pub finishes: mpsc::Sender<Finish>,
    /// The bound on what is in flight.
    pub budget: Arc<Budget>,
    /// What is processed and not committed.
    pub backlog: Arc<Backlog>,
    /// The whitelist.
    pub whitelist: whitelist::Handle,
    /// Time.
    pub clock: Clock,
}

/// The poll thread's state.
pub struct Reader {
    consumer: Arc<LiveConsumer>,
    wiring: Wiring,
    intake: Intake,
    plans: Vec<Arc<TopicPlan>>,
    gate: Gate,
    open: Vec<Open>,
    /// The place in `open` of the partition that the last record came from.
    last: usize,
    /// Sealed chunks that found no room.
    waiting: Vec<Arc<Chunk>>,
    drain_limit: Duration,
}

impl Reader {
    /// Makes a reader of a subscribed consumer.
    pub fn new(
        consumer: Arc<LiveConsumer>,
        wiring: Wiring,
        intake: Intake,
        plans: Vec<TopicPlan>,
        drain_limit: Duration,
    ) -> Self {
        let plans = plans.into_iter().map(Arc::new).collect();
        let (gate, open, waiting) = (Gate::default(), Vec::new(), Vec::new());
        Self {
            consumer,
            wiring,
            intake,
            plans,
            gate,
            open,
            last: 0,
            waiting,
            drain_limit,
        }
    }

    /// Polls until told to end. Returns after the owned partitions were drained and committed as far as possible.
    pub fn run(mut self) -> Result<(), Error> {
        loop {
            // The coordinator first: a command for a partition that it takes away must find it gone.
            self.requests()?;
            if !self.commands() {
                return self.finish();
            }
            self.balance()?;
            let idle = self.poll_many()?;
            self.seal_aged()?;
            if idle {
                let consumer = Arc::clone(&self.consumer);
                self.poll(&consumer, POLL_WAIT)?;
            }
        }
    }

    /// Polls what is ready, up to the next chores. Returns whether nothing more was ready.
    fn poll_many(&mut self) -> Result<bool, Error> {
        let consumer = Arc::clone(&self.consumer);
        for _ in 0..RECORDS_BETWEEN_CHORES {
            if self.gate.is_held() || self.wiring.budget.is_full() {
                return Ok(self.gate.is_held());
            }
            if !self.poll(&consumer, Duration::ZERO)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Polls once. Returns whether there was a record.
    fn poll(&mut self, consumer: &LiveConsumer, wait: Duration) -> Result<bool, Error> {
        match consumer.poll(wait) {
            Some(Ok(message)) => {
                self.take(&message)?;
                Ok(true)
            }
            Some(Err(error)) => self.client_error(error).map(|()| false),
            None => Ok(false),
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Error> {
        let Some(place) = self.find(message) else { return Ok(()) };
        let Some(offset) = Offset::from_kafka(message.offset()) else {
            return Ok(());
        };
        if offset < self.open[place].expected {
            // Delivered in this assignment already.
            return Ok(());
        }
        if self.open[place].builder.as_ref().is_some_and(Builder::is_full) {
            self.seal(place);
            self.hand_on(PATIENCE)?;
        }
        let record = Delivered {
            offset,
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key(),
            payload: message.payload(),
            headers: &[],
        };
        let open = &mut self.open[place];
        if open.builder.is_none() {
            let whitelist = self.wiring.whitelist.current().ok_or(Error::WhitelistUnknown)?;
            // A chunk begins where the one before ended, so that coverage has no hole where offsets have gaps.
            open.builder = Some(Builder::new(open.expected, whitelist, self.wiring.clock.monotonic()));
        }
        self.intake.take(open, record, |each| headers::for_each(message, each));
        Ok(())
    }

    /// Finds the open partition of a record; `None` when it is not read (any more).
    fn find(&mut self, message: &BorrowedMessage<'_>) -> Option<usize> {
        let is = |open: &Open| {
            open.partition.partition.to_kafka() == message.partition()
                && open.partition.topic.as_str() == message.topic()
        };
        if !self.open.get(self.last).is_some_and(is) {
            self.last = self.open.iter().position(is)?;
        }
        Some(self.last)
    }

    fn client_error(&mut self, error: KafkaError) -> Result<(), Error> {
        match error {
            KafkaError::MessageConsumptionFatal(_) => Err(Error::Fatal(error)),
            // The client would pass over what it cannot read; the process ends instead, and says so, again and again.
            KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::NotImplemented) => {
                Err(Error::Unreadable(error))
            }
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => {
                // The error names no partition: admission compares all positions with the logs.
                self.seal_all(|_| true);
                let _ = self.wiring.admission.blocking_send(admission::Event::CheckPositions);
                Ok(())
            }
            error => {
                tracing::warn!(%error, "kafka poll");
                Ok(())
            }
        }
    }

    /// Seals an open chunk; it waits to be handed on.
    fn seal(&mut self, place: usize) {
        let open = &mut self.open[place];
        let Some(builder) = open.builder.take() else { return };
        let delivered_at = self.wiring.clock.now().as_millisecond();
        let chunk = builder.seal(Arc::clone(&open.stretch), delivered_at, Arc::clone(&self.wiring.budget));
        let partitions = &self.wiring.partitions;
        if partitions.queue(&open.partition, open.epoch, chunk.completion()) {
            self.waiting.push(chunk);
        }
    }

    /// Seals the open chunks that are meant.
    fn seal_all(&mut self, meant: impl Fn(&Builder) -> bool) {
        for place in 0..self.open.len() {
            if self.open[place].builder.as_ref().is_some_and(&meant) {
                self.seal(place);
            }
        }
    }

    fn seal_aged(&mut self) -> Result<(), Error> {
        let now = self.wiring.clock.monotonic();
        self.seal_all(|builder| builder.begun() + CHUNK_LINGER <= now);
        self.hand_on(PATIENCE)
    }

    /// Hands sealed chunks to decode, in order, waiting for room at most `patience`.
    fn hand_on(&mut self, patience: Duration) -> Result<(), Error> {
        let until = self.wiring.clock.monotonic() + patience;
        while !self.waiting.is_empty() {
            let left = until.saturating_sub(self.wiring.clock.monotonic());
            match self.wiring.chunks.send_timeout(self.waiting.remove(0), left) {
                Ok(()) => {}
                Err(crossbeam_channel::SendTimeoutError::Timeout(chunk)) => {
                    self.waiting.insert(0, chunk);
                    return Ok(());
                }
                Err(crossbeam_channel::SendTimeoutError::Disconnected(_)) => return Err(Error::PipelineGone),
            }
        }
        Ok(())
    }

    /// Holds or releases the intake, after a short wait for room.
    fn balance(&mut self) -> Result<(), Error> {
        let until = self.wiring.clock.monotonic() + PATIENCE;
        while !self.gate.is_held() && self.wiring.budget.is_full() && self.wiring.clock.monotonic() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.hand_on(Duration::ZERO)?;
        let known = self.wiring.whitelist.current().is_some();
        let open = known && self.waiting.is_empty() && !self.wiring.backlog.is_full();
        let hold = if self.gate.is_held() {
            !(open && self.wiring.budget.has_room())
        } else {
            !open || self.wiring.budget.is_full()
        };
        if hold != self.gate.is_held() {
            let (rows, bytes) = self.wiring.budget.in_flight();
            tracing::info!(
                hold,
                rows,
                bytes,
                waiting = self.waiting.len(),
                whitelist.known = known,
                "intake"
            );
            self.gate.hold(hold);
        }
        self.apply_gate();
        let (rows, bytes) = self.wiring.budget.in_flight();
        metrics::intake(rows, bytes, self.wiring.backlog.records(), self.gate.is_held());
        Ok(())
    }

    fn apply_gate(&mut self) {
        let changes = self.gate.changes();
        if changes.pause.is_empty() && changes.resume.is_empty() {
            return;
        }
        let at_stored = |partitions: &[TopicPartition]| {
            list(partitions.iter().map(|partition| (partition, rdkafka::Offset::Invalid)))
        };
        let applied = at_stored(&changes.pause)
            .and_then(|pause| self.consumer.pause(&pause))
            .and_then(|()| at_stored(&changes.resume))
            .and_then(|resume| self.consumer.resume(&resume));
        if let Err(error) = applied {
            tracing::warn!(%error, "pause or resume");
            self.gate.failed(changes);
        }
    }
}
