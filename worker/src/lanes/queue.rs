//! What waits for one lane: a queue per data type, because types may share a table.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use reprise_shared::catalog::TypeIndex;
use tokio::sync::Notify;

use crate::piece::{Letter, PendingRow};
use crate::sink::Work;
use crate::sink::batch::{Batch, Wins};
use crate::sink::shared::Shared;
use crate::sink::task::Task;

/// A batch may take this many rows for each row that it can write: rows of one key count once.
const ROWS_PER_KEY: usize = 4;

/// A piece with its place.
pub(super) enum Entry {
    Row { slot: usize, hash: u64, row: PendingRow },
    Letter { slot: usize, letter: Letter },
}

/// The queues of one lane.
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    slots: Vec<TypeQueue>,
    /// The slot after the one that was served last, so that no type starves another.
    next: usize,
    closed: bool,
}

struct TypeQueue {
    data_type: Option<TypeIndex>,
    wins: Wins,
    max_rows: usize,
    linger: Duration,
    rows: VecDeque<(u64, PendingRow)>,
    letters: VecDeque<Letter>,
    /// When the first piece that waits came.
    since: Duration,
}

/// The bounds of one batch.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Rows, beside the bound of their type.
    pub(super) rows: usize,
    pub(super) letters: usize,
    /// Bytes of the letters' records.
    pub(super) letter_bytes: usize,
}

/// What the lane does next.
pub(super) enum Next {
    Write(Work),
    /// Something lingers for at most this long.
    Wait(Duration),
    Idle,
    Closed,
}

impl TypeQueue {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.letters.is_empty()
    }

    fn ready_in(&self, now: Duration, limits: Limits) -> Duration {
        if self.rows.len() >= self.max_rows.min(limits.rows) {
            return Duration::ZERO;
        }
        (self.since + self.linger).saturating_sub(now)
    }

    fn take(&mut self, limits: Limits) -> Work {
        let most = self.max_rows.min(limits.rows);
        let mut batch = Batch::new(self.rows.len().min(most), self.wins);
        while batch.keys() < most && batch.rows().len() < most * ROWS_PER_KEY {
            let Some((hash, row)) = self.rows.pop_front() else {
                break;
            };
            batch.push(hash, row);
        }
        batch.seal();
        let mut letters = Vec::new();
        let mut bytes = 0;
        while letters.len() < limits.letters {
            let Some(letter) = self.letters.front() else {
                break;
            };
            bytes += letter.chunk.record(letter.record).payload.map_or(0, <[u8]>::len);
            if bytes > limits.letter_bytes && !letters.is_empty() {
                break;
            }
            letters.extend(self.letters.pop_front());
        }
        Work {
            data_type: self.data_type,
            batch,
            letters,
        }
    }
}

impl Queue {
    /// Makes the queues for the kinds of pieces of one table.
    pub(super) fn new(shared: &Shared, slots: &[Option<TypeIndex>]) -> Self {
        let slots = slots.iter().map(|data_type| TypeQueue {
            data_type: *data_type,
            wins: shared.task().map_or(Wins::Newer, Task::wins),
            max_rows: data_type.map_or(1, |index| shared.max_rows(index)),
            linger: data_type.map_or(Duration::ZERO, |index| shared.catalog().data_type(index).batch.linger),
            rows: VecDeque::new(),
            letters: VecDeque::new(),
            since: Duration::ZERO,
        });
        Self {
            state: Mutex::new(State {
                slots: slots.collect(),
                next: 0,
                closed: false,
            }),
            wake: Notify::new(),
        }
    }

    /// Appends pieces and wakes the lane.
    pub(super) fn push(&self, entries: Vec<Entry>, now: Duration) {
        let mut state = self.state.lock();
        for entry in entries {
            let (Entry::Row { slot, .. } | Entry::Letter { slot, .. }) = &entry;
            let queue = &mut state.slots[*slot];
            if queue.is_empty() {
                queue.since = now;
            }
            match entry {
                Entry::Row { hash, row, .. } => queue.rows.push_back((hash, row)),
                Entry::Letter { letter, .. } => queue.letters.push_back(letter),
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Says whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Ends lingering and the bound of [`Limits::rows`] for good and lets the lane end when everything is taken.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Waits for a push or close since the last call returned. Cancel-safe.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes the next batch that is due, in turn between the types.
    pub(super) fn next(&self, now: Duration, limits: Limits) -> Next {
        let mut state = self.state.lock();
        let (count, closed) = (state.slots.len(), state.closed);
        let rows = if closed { usize::MAX } else { limits.rows };
        let limits = Limits { rows, ..limits };
        let mut soonest = None::<Duration>;
        for step in 0..count {
            let place = (state.next + step) % count;
            let queue = &mut state.slots[place];
            if queue.is_empty() {
                continue;
            }
            let wait = queue.ready_in(now, limits);
            if wait.is_zero() || closed {
                let work = queue.take(limits);
                state.next = place + 1;
                return Next::Write(work);
            }
            soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
        }
        match soonest {
            Some(wait) => Next::Wait(wait),
            None if closed => Next::Closed,
            None => Next::Idle,
        }
    }

    /// Takes everything that waits for one type: it is stopped.
    pub(super) fn take_all(&self, data_type: TypeIndex) -> (Vec<PendingRow>, Vec<Letter>) {
        let mut state = self.state.lock();
        let Some(queue) = state.slots.iter_mut().find(|queue| queue.data_type == Some(data_type)) else {
            return (Vec::new(), Vec::new());
        };
        (
            queue.rows.drain(..).map(|(_, row)| row).collect(),
            queue.letters.drain(..).collect(),
        )
    }
}
