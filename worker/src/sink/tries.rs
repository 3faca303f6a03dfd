//! What a writer remembers between the tries of one batch (pure).

use std::collections::HashSet;
use std::time::Duration;

use reprise_shared::backoff::{Backoff, Waits};

use super::attempt::too_large;
use super::batch::Slot;
use super::shared::Config;
use super::work::Work;

/// What is remembered between the tries of one batch.
pub(super) struct Tries {
    pub(super) started: Duration,
    pub(super) waits: Waits,
    pub(super) deadlocks: u32,
    /// Bytes of one statement at most; halved when the server says that one was too large.
    pub(super) cap: usize,
    pub(super) packet_reread: bool,
    /// Connections lost while this row (by its place in the batch), larger than half of the limit, was on its way.
    pub(super) losses: Option<(usize, u32)>,
    /// Rows that no packet can carry, by their place in the batch, with their bytes.
    pub(super) too_large: HashSet<(usize, usize)>,
}

impl Tries {
    pub(super) fn new(config: &Config, started: Duration) -> Self {
        Self {
            started,
            waits: Backoff::new(config.backoff_base, config.backoff_cap).waits(),
            deadlocks: 0,
            cap: usize::MAX,
            packet_reread: false,
            losses: None,
            too_large: HashSet::new(),
        }
    }

    /// Starts a try from the batch as it was sealed, without the rows that are known to fit into no packet.
    pub(super) fn prepare(&self, work: &mut Work, packet: usize) {
        work.batch.reset();
        if self.too_large.is_empty() {
            return;
        }
        for slot in (0..work.batch.slots()).map(Slot) {
            let known = |place| {
                self.too_large
                    .iter()
                    .find(|(row, _)| *row == place)
                    .map(|(_, bytes)| *bytes)
            };
            while let Some(bytes) = work.batch.place(slot).and_then(known) {
                work.batch.reject(slot, too_large(bytes, packet));
            }
        }
    }

    /// Counts a connection that was lost, or refused a statement, while this row led it; returns how often in a row.
    pub(super) fn lost_with(&mut self, place: usize) -> u32 {
        let losses = match self.losses {
            Some((known, losses)) if known == place => losses + 1,
            _ => 1,
        };
        self.losses = Some((place, losses));
        losses
    }
}
