//! A chunk: up to 512 consecutive delivered records of one partition, the unit of completion tracking.
//!
//! The source fills it, decode turns its kept records into rows and letters, lanes settle those, and progress moves
//! over it once nothing is pending. Counts are kept here, so that a chunk's outcome enters the ledger all at once.
//!
//! Invariant: `pending` is 1 while the chunk is still being decoded, plus one for every row and letter that is not
//! durable yet. It reaches zero exactly once.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use reprise_shared::catalog::TypeIndex;
use reprise_shared::position::{Offset, RowNumber, SourcePosition, TopicGeneration, TopicId, TopicPartition};
use reprise_shared::tally::RowCounts;
use reprise_shared::whitelist::Snapshot;

use crate::budget::Budget;
use crate::outcome::{Outcome, TypeTally};

/// What all chunks of one stretch of reading have in common.
#[derive(Debug)]
pub struct Stretch {
    /// The partition that is read.
    pub topic_partition: TopicPartition,
    /// The topic's id while it is read.
    pub topic_id: TopicId,
    /// The topic's generation while it is read.
    pub generation: TopicGeneration,
    /// Set when the partition was taken away: what still happens to its chunks is not counted any more.
    pub abandoned: AtomicBool,
}

/// The place of a kept record in its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordIndex(pub u32);

/// A record that was kept for decoding: its bytes lie in the chunk's one buffer.
#[derive(Clone, Debug)]
pub(crate) struct KeptRecord {
    pub(crate) offset: Offset,
    pub(crate) timestamp: i64,
    pub(crate) data_type: Option<TypeIndex>,
    pub(crate) key: Option<Range<usize>>,
    pub(crate) payload: Option<Range<usize>>,
    pub(crate) headers: Range<usize>,
    /// The payload's size as Kafka delivered it; larger than `payload` where an oversized one was cut.
    pub(crate) payload_size: usize,
    /// The record's key is not whitelisted; it is decoded only to check that key and id agree.
    pub(crate) audit_only: bool,
}

/// A kept record, borrowed from its chunk.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Kafka's timestamp in milliseconds; −1 when it has none.
    pub timestamp: i64,
    /// Its data type; `None` when it matched none.
    pub data_type: Option<TypeIndex>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its payload; `None` for a tombstone. Cut at the record limit when `payload_size` is larger.
    pub payload: Option<&'a [u8]>,
    /// The payload's size as Kafka delivered it.
    pub payload_size: usize,
    /// Its headers, packed (see `reprise_shared::kafka::headers`).
    pub headers: &'a [u8],
    /// It is decoded only to check that key and id agree.
    pub audit_only: bool,
}

/// What progress needs of a chunk. It outlives the chunk's bytes, which are freed as soon as its last row is durable.
#[derive(Debug)]
pub struct Completion {
    /// The stretch it belongs to.
    pub stretch: Arc<Stretch>,
    /// The position of its first delivered record.
    pub start: Offset,
    /// The position after its last delivered record.
    pub end: Offset,
    /// How many records were delivered: what the outcomes must add up to.
    pub records: u64,
    /// The whitelist that judged all of its records.
    pub whitelist: Arc<Snapshot>,
    /// When its last record was delivered, in milliseconds since 1970.
    pub delivered_at: i64,
    pending: AtomicUsize,
    outcome: Mutex<Outcome>,
}

impl Completion {
    /// Tells whether every record has a durable outcome.
    pub fn is_complete(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    /// Returns the counts per type. Final once the chunk is complete.
    pub fn tallies(&self) -> Vec<(Option<TypeIndex>, TypeTally)> {
        self.outcome.lock().tallies()
    }

    fn finish(&self, pieces: usize) {
        if pieces > 0 {
            let before = self.pending.fetch_sub(pieces, Ordering::AcqRel);
            debug_assert!(before >= pieces, "a chunk's piece was settled twice");
        }
    }
}

/// Up to 512 consecutive delivered records of one partition. Reads like its [`Completion`].
#[derive(Debug)]
pub struct Chunk {
    completion: Arc<Completion>,
    kept: Vec<KeptRecord>,
    data: Vec<u8>,
    budget: Arc<Budget>,
}

impl Deref for Chunk {
    type Target = Completion;

    fn deref(&self) -> &Completion {
        &self.completion
    }
}

/// What a source collected, ready to be sealed as a chunk.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) stretch: Arc<Stretch>,
    pub(crate) positions: Range<Offset>,
    pub(crate) records: u64,
    pub(crate) whitelist: Arc<Snapshot>,
    pub(crate) delivered_at: i64,
    pub(crate) kept: Vec<KeptRecord>,
    pub(crate) data: Vec<u8>,
    /// Counts the records that were not kept already.
    pub(crate) outcome: Outcome,
}

impl Chunk {
    /// Seals what a source collected.
    pub(crate) fn new(contents: Contents, budget: Arc<Budget>) -> Arc<Self> {
        budget.take_bytes(contents.data.len());
        let completion = Arc::new(Completion {
            stretch: contents.stretch,
            start: contents.positions.start,
            end: contents.positions.end,
            records: contents.records,
            whitelist: contents.whitelist,
            delivered_at: contents.delivered_at,
            pending: AtomicUsize::new(1),
            outcome: Mutex::new(contents.outcome),
        });
        Arc::new(Self {
            completion,
            kept: contents.kept,
            data: contents.data,
            budget,
        })
    }

    /// Returns what progress waits for.
    pub fn completion(&self) -> Arc<Completion> {
        Arc::clone(&self.completion)
    }

    /// Returns the number of kept records.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Tells whether no record was kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Returns a kept record.
    pub fn record(&self, index: RecordIndex) -> Record<'_> {
        let kept = &self.kept[index.0 as usize];
        Record {
            offset: kept.offset,
            timestamp: kept.timestamp,
            data_type: kept.data_type,
            key: kept.key.clone().map(|range| &self.data[range]),
            payload: kept.payload.clone().map(|range| &self.data[range]),
            payload_size: kept.payload_size,
            headers: &self.data[kept.headers.clone()],
            audit_only: kept.audit_only,
        }
    }

    /// Iterates over the kept records.
    pub fn records(&self) -> impl Iterator<Item = (RecordIndex, Record<'_>)> {
        (0..self.kept.len()).map(|index| {
            let index = RecordIndex(u32::try_from(index).expect("a chunk has at most 512 records"));
            (index, self.record(index))
        })
    }

    /// Returns the source position of a row of a kept record.
    pub fn source_position(&self, index: RecordIndex, row: RowNumber) -> SourcePosition {
        let offset = self.kept[index.0 as usize].offset;
        SourcePosition::new(
            self.stretch.generation,
            self.stretch.topic_partition.partition,
            offset,
            row,
        )
    }

    /// Announces work before it is handed on: `pieces` rows and letters.
    pub fn expect(&self, pieces: usize) {
        self.pending.fetch_add(pieces, Ordering::Relaxed);
    }

    /// Changes the counts while the chunk is being decoded.
    pub fn count<R>(&self, change: impl FnOnce(&mut Outcome) -> R) -> R {
        change(&mut self.outcome.lock())
    }

    /// Marks decoding as finished: all rows and letters were announced.
    pub fn decoded(&self) {
        self.finish(1);
    }

    /// Records that rows of one type became durable, each with one of the outcomes counted.
    pub fn settle_rows(&self, data_type: TypeIndex, counts: RowCounts) {
        self.outcome.lock().tally(Some(data_type)).rows += counts;
        self.finish(usize::try_from(counts.settled()).expect("a chunk's rows fit into memory"));
    }

    /// Records that a record-level letter became durable.
    pub fn settle_letter(&self) {
        self.finish(1);
    }

    /// Records that one row was dropped because its type is stopped: its record counts as deferred from now on.
    pub fn defer_row(&self, data_type: TypeIndex, record: RecordIndex) {
        self.outcome.lock().defer_row(data_type, record);
        self.finish(1);
    }

    /// Records that a record-level letter was dropped because its type is stopped.
    pub fn defer_letter(&self, data_type: TypeIndex, record: RecordIndex) {
        self.outcome.lock().defer_letter(data_type, record);
        self.finish(1);
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.budget.give_bytes(self.data.len());
    }
}
