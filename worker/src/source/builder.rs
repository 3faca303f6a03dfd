//! Collects delivered records of one partition until they make a chunk.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use reprise_shared::catalog::TypeIndex;
use reprise_shared::position::Offset;
use reprise_shared::whitelist::Snapshot;

use crate::budget::Budget;
use crate::chunk::{Chunk, Contents, KeptRecord, Stretch};
use crate::outcome::Outcome;

/// A chunk holds at most this many delivered records.
pub const MAX_RECORDS: usize = 512;
/// A chunk is sealed once it holds this many bytes, so that one chunk never takes much of the budget.
pub const MAX_BYTES: usize = 2 * 1024 * 1024;

/// A delivered record, borrowed from the client.
#[derive(Clone, Copy, Debug)]
pub struct Delivered<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Kafka's timestamp in milliseconds; −1 when it has none.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its payload; `None` for a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Its headers, packed.
    pub headers: &'a [u8],
}

/// A chunk that is still open.
#[derive(Debug)]
pub struct Builder {
    whitelist: Arc<Snapshot>,
    start: Offset,
    end: Offset,
    records: usize,
    begun: Duration,
    kept: Vec<KeptRecord>,
    data: Vec<u8>,
    outcome: Outcome,
}

impl Builder {
    /// Opens a chunk at a position; all of its records are judged by `whitelist`. `now` is the monotonic clock.
    pub fn new(start: Offset, whitelist: Arc<Snapshot>, now: Duration) -> Self {
        Self {
            whitelist,
            start,
            end: start,
            records: 0,
            begun: now,
            kept: Vec::new(),
            data: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    /// Returns the whitelist that judges this chunk.
    pub fn whitelist(&self) -> &Snapshot {
        &self.whitelist
    }

    /// Returns when the chunk was opened, by the monotonic clock.
    pub fn begun(&self) -> Duration {
        self.begun
    }

    /// Tells whether the chunk must be sealed before another record.
    pub fn is_full(&self) -> bool {
        self.records >= MAX_RECORDS || self.data.len() >= MAX_BYTES
    }

    /// Counts a record that needs no decoding. `count` receives the tally of its type.
    pub fn pass(
        &mut self,
        data_type: Option<TypeIndex>,
        offset: Offset,
        timestamp: i64,
        count: impl FnOnce(&mut crate::outcome::TypeTally),
    ) {
        self.delivered(offset);
        count(self.outcome.saw(data_type, offset, timestamp));
    }

    /// Keeps a record for decoding; decode counts it. A payload above `max_payload` bytes is cut there.
    pub fn keep(&mut self, data_type: Option<TypeIndex>, record: Delivered<'_>, audit_only: bool, max_payload: usize) {
        self.delivered(record.offset);
        let payload_size = record.payload.map_or(0, <[u8]>::len);
        if self.kept.is_empty() {
            self.kept.reserve(MAX_RECORDS);
            // Records of one topic are about as long as each other; growing step by step would copy them again.
            let size = record.key.map_or(0, <[u8]>::len) + payload_size + record.headers.len();
            self.data.reserve((MAX_RECORDS * size).min(MAX_BYTES / 8));
        }
        let key = record.key.map(|key| append(&mut self.data, key));
        let payload = record
            .payload
            .map(|payload| append(&mut self.data, &payload[..payload.len().min(max_payload)]));
        let headers = append(&mut self.data, record.headers);
        self.kept.push(KeptRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            data_type,
            key,
            payload,
            headers,
            payload_size,
            audit_only,
        });
    }

    fn delivered(&mut self, offset: Offset) {
        self.records += 1;
        self.end = offset.next();
    }

    /// Seals the chunk. `delivered_at` is in milliseconds since 1970.
    pub fn seal(mut self, stretch: Arc<Stretch>, delivered_at: i64, budget: Arc<Budget>) -> Arc<Chunk> {
        self.data.shrink_to_fit();
        let contents = Contents {
            stretch,
            positions: self.start..self.end,
            records: self.records as u64,
            whitelist: self.whitelist,
            delivered_at,
            kept: self.kept,
            data: self.data,
            outcome: self.outcome,
        };
        Chunk::new(contents, budget)
    }
}

fn append(data: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = data.len();
    data.extend_from_slice(bytes);
    start..data.len()
}
