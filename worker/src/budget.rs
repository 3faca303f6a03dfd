//! The bound on rows and bytes in flight, and the bell that rings when some of them are done.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts rows and payload bytes between the source and the database.
#[derive(Debug)]
pub struct Budget {
    max_rows: usize,
    max_bytes: usize,
    rows: AtomicUsize,
    bytes: AtomicUsize,
    changed: Notify,
}

impl Budget {
    /// Sets the bounds: rows decoded and not yet durable, and payload bytes held by chunks.
    pub fn new(max_rows: usize, max_bytes: usize) -> Self {
        Self {
            max_rows,
            max_bytes,
            rows: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    /// Tells whether the source must stop for now.
    pub fn is_full(&self) -> bool {
        self.rows.load(Ordering::Relaxed) >= self.max_rows || self.bytes.load(Ordering::Relaxed) >= self.max_bytes
    }

    /// Tells whether decode must stop for now.
    pub fn is_full_of_rows(&self) -> bool {
        self.rows.load(Ordering::Relaxed) >= self.max_rows
    }

    /// Tells whether the source may go on: below three quarters of both bounds, so that it does not flutter.
    pub fn has_room(&self) -> bool {
        self.rows.load(Ordering::Relaxed) <= self.max_rows / 4 * 3
            && self.bytes.load(Ordering::Relaxed) <= self.max_bytes / 4 * 3
    }

    /// Returns rows and bytes in flight.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Waits until rows are below their bound. Cancel-safe.
    pub async fn room_for_rows(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.rows.load(Ordering::Relaxed) < self.max_rows {
                return;
            }
            changed.await;
        }
    }

    /// Adds rows in flight.
    pub fn take_rows(&self, rows: usize) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Removes rows in flight: they are durable or dropped.
    pub fn give_rows(&self, rows: usize) {
        self.rows.fetch_sub(rows, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub(crate) fn take_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_bytes(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Waits until something in flight is done. Cancel-safe. Check the condition again after each return; a change
    /// between the check and this call is missed, so pair it with a time limit.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
