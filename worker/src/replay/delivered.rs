//! What the reader of one task delivered, in order, and how much of its beginning is complete.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use reprise_shared::position::Offset;

use crate::chunk::Completion;
use crate::progress::queue::Queue;

/// The queue of chunks with their bytes. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Delivered(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: Queue,
    /// Of each queued chunk: the bytes of its records' keys and payloads.
    bytes: VecDeque<u64>,
}

impl Delivered {
    /// Begins at a position.
    pub(super) fn starting_at(position: Offset) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            queue: Queue::starting_at(position),
            bytes: VecDeque::new(),
        })))
    }

    /// Adds the next chunk.
    pub(super) fn push(&self, chunk: Arc<Completion>, bytes: u64) {
        let mut inner = self.0.lock();
        inner.queue.push(chunk);
        inner.bytes.push_back(bytes);
    }

    /// Tells whether everything that was delivered is complete.
    pub(super) fn all_complete(&self) -> bool {
        self.0.lock().queue.all_complete()
    }

    /// Tells whether everything that was delivered was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().queue.is_empty()
    }

    /// Returns how much of the beginning is complete, as a number of chunks.
    pub(super) fn complete(&self) -> usize {
        let inner = self.0.lock();
        inner.queue.ready(inner.queue.delivered()).len()
    }

    /// Takes the first chunks, which are complete, with their bytes.
    pub(super) fn take(&self, count: usize) -> Vec<(Arc<Completion>, u64)> {
        let mut inner = self.0.lock();
        let chunks = inner.queue.ready(inner.queue.delivered());
        inner.queue.take(count);
        let bytes: Vec<u64> = inner.bytes.drain(..count).collect();
        chunks.into_iter().zip(bytes).collect()
    }
}
