//! Collects the kept records of a chunk.

use std::ops::Range;
use std::sync::Arc;

use reprise_shared::catalog::TypeIndex;
use reprise_shared::position::Offset;

use super::{Chunk, KeptRecord, RecordIndex, Stretch};
use crate::budget::Budget;
use crate::headers::PackedHeaders;
use crate::outcome::Outcome;

/// A record to keep, borrowed from its source.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Kafka's timestamp in milliseconds; −1 when it has none.
    pub timestamp: i64,
    /// Its data type; `None` when it matched none.
    pub data_type: Option<TypeIndex>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its payload; `None` for a tombstone. Perhaps cut at the record limit.
    pub payload: Option<&'a [u8]>,
    /// The payload's size as Kafka delivered it.
    pub payload_size: usize,
    /// It is decoded only to check that key and id agree.
    pub audit_only: bool,
}

/// Collects records until a chunk is sealed.
#[derive(Debug, Default)]
pub struct ChunkBuilder {
    kept: Vec<KeptRecord>,
    data: Vec<u8>,
    outcome: Outcome,
}

impl ChunkBuilder {
    /// Copies a record in and returns its place. Records come in offset order, at most 512 a chunk.
    pub fn keep<'h>(
        &mut self,
        record: NewRecord<'_>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) -> RecordIndex {
        let index = RecordIndex(u32::try_from(self.kept.len()).expect("a chunk has at most 512 records"));
        let key = record.key.map(|bytes| self.append(bytes));
        let payload = record.payload.map(|bytes| self.append(bytes));
        let start = self.data.len();
        let mut packed = PackedHeaders::new(&mut self.data);
        for (name, value) in headers {
            packed.push(name, value);
        }
        self.kept.push(KeptRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            data_type: record.data_type,
            key,
            payload,
            headers: start..self.data.len(),
            payload_size: record.payload_size,
            audit_only: record.audit_only,
        });
        index
    }

    /// Returns the counts, for records that are not kept.
    pub fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }

    /// Makes the chunk.
    pub fn seal(
        self,
        stretch: Arc<Stretch>,
        positions: Range<Offset>,
        whitelist_version: u64,
        delivered_at: i64,
        budget: Arc<Budget>,
    ) -> Arc<Chunk> {
        Chunk::new(
            stretch,
            positions,
            whitelist_version,
            delivered_at,
            self.kept,
            self.data,
            self.outcome,
            budget,
        )
    }

    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        start..self.data.len()
    }
}
