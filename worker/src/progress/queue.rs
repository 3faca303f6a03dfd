//! The chunks of one partition in delivered order. Only the completed prefix moves.

use std::collections::VecDeque;
use std::sync::Arc;

use reprise_shared::position::Offset;
use reprise_shared::whitelist::Version;

use crate::chunk::Completion;

/// Chunks of one assignment of one partition.
#[derive(Debug, Default)]
pub struct Queue {
    chunks: VecDeque<Arc<Completion>>,
    completed: Offset,
    delivered: Offset,
}

impl Queue {
    /// Makes an empty queue at a position.
    pub fn starting_at(position: Offset) -> Self {
        Self {
            chunks: VecDeque::new(),
            completed: position,
            delivered: position,
        }
    }

    /// Adds the next chunk.
    pub fn push(&mut self, chunk: Arc<Completion>) {
        self.delivered = chunk.end;
        self.chunks.push_back(chunk);
    }

    /// Returns the position after the last delivered record.
    pub fn delivered(&self) -> Offset {
        self.delivered
    }

    /// Returns the position below which everything was taken.
    pub fn completed(&self) -> Offset {
        self.completed
    }

    /// Tells whether every delivered record was taken.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Tells whether every queued chunk is complete.
    pub fn all_complete(&self) -> bool {
        self.chunks.iter().all(|chunk| chunk.is_complete())
    }

    /// Returns the oldest whitelist version among chunks in flight.
    pub fn oldest_whitelist_version(&self) -> Option<Version> {
        self.chunks.iter().map(|chunk| chunk.whitelist.version()).min()
    }

    /// Returns how many delivered records are queued.
    pub fn records(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.records).sum()
    }

    /// Returns the complete chunks at the front, as far as they end at or below `limit`. They stay queued.
    pub fn ready(&self, limit: Offset) -> Vec<Arc<Completion>> {
        self.chunks
            .iter()
            .take_while(|chunk| chunk.end <= limit && chunk.is_complete())
            .cloned()
            .collect()
    }

    /// Takes chunks off the front, which [`Queue::ready`] returned.
    pub fn take(&mut self, count: usize) {
        if let Some(last) = self.chunks.drain(..count.min(self.chunks.len())).next_back() {
            self.completed = last.end;
        }
    }
}
