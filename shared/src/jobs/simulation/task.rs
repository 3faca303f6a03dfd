//! A task and its lanes as MySQL has them, the rows that its batches left, and what always holds for them.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::jobs::model::{Phase, ReadCounts};
use crate::jobs::ownership::Ownership;
use crate::jobs::states::TaskState;
use crate::leases::Epoch;
use crate::position::Offset;

#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) epoch: Epoch,
    /// Who has a batch open on it, and since when.
    pub(super) open: Option<(usize, Timestamp)>,
}

#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) row: Ownership,
    pub(super) lanes: [Lane; 2],
    /// Where Kafka's log begins.
    pub(super) log_start: u64,
    pub(super) cleaned: BTreeSet<u64>,
    pub(super) written: BTreeSet<u64>,
    pub(super) missing: BTreeSet<u64>,
    /// The lanes' count of inserted rows.
    pub(super) inserted: u64,
    /// Who may write, by a book that is kept apart: whom the last claim named, until that ended.
    pub(super) rightful: Option<usize>,
}

impl Task {
    pub(super) fn new(positions: u64, clean_first: bool) -> Self {
        let lane = Lane {
            epoch: Epoch(0),
            open: None,
        };
        Self {
            row: Ownership {
                state: TaskState::Pending,
                phase: if clean_first { Phase::Clean } else { Phase::Write },
                start: Offset(0),
                end: Offset(positions),
                checkpoint: Offset(0),
                epoch: Epoch(0),
                owner: String::new(),
                lease_until: None,
                attempts: 0,
                read: ReadCounts::default(),
                reason: String::new(),
                error: String::new(),
            },
            lanes: [lane.clone(), lane],
            log_start: 0,
            cleaned: BTreeSet::new(),
            written: BTreeSet::new(),
            missing: BTreeSet::new(),
            inserted: 0,
            rightful: None,
        }
    }

    /// Changes the row in a transaction that raises the lanes' epochs with its own; `None`: a batch is open on a lane,
    /// so the transaction waits, and then gives up.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut Ownership) -> T) -> Option<T> {
        let mut row = self.row.clone();
        let answer = change(&mut row);
        if row.epoch != self.row.epoch {
            if self.is_busy() {
                return None;
            }
            for lane in &mut self.lanes {
                lane.epoch = row.epoch;
            }
            self.rightful = None;
        }
        self.row = row;
        Some(answer)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.lanes.iter().any(|lane| lane.open.is_some())
    }

    pub(super) fn roll_back(&mut self, is_over: impl Fn(usize, Timestamp) -> bool) {
        for lane in &mut self.lanes {
            if lane.open.is_some_and(|(slot, since)| is_over(slot, since)) {
                lane.open = None;
            }
        }
    }

    fn done(&self) -> &BTreeSet<u64> {
        match self.row.phase {
            Phase::Clean => &self.cleaned,
            Phase::Write => &self.written,
        }
    }
}

pub(super) fn check_task(task: &Task, clean_first: bool) {
    let row = &task.row;
    for lane in &task.lanes {
        assert_eq!(lane.epoch, row.epoch, "{task:?}");
    }
    assert!(row.start <= row.checkpoint && row.checkpoint <= row.end, "{task:?}");
    assert_eq!(row.owner.is_empty(), row.state != TaskState::Running, "{task:?}");
    let is_done = |position: &u64| task.done().contains(position) || task.missing.contains(position);
    let prefix = row.start.0..row.checkpoint.0;
    assert!(prefix.clone().all(|position| is_done(&position)), "{task:?}");
    if row.state == TaskState::Done {
        assert_eq!((row.checkpoint, row.phase), (row.end, Phase::Write), "{task:?}");
    }
    // Exact counts, however often work was done again.
    let missing = task.missing.range(prefix).count() as u64;
    assert_eq!(row.read.read, row.checkpoint.0 - row.start.0 - missing, "{task:?}");
    assert_eq!(task.inserted, task.written.len() as u64, "{task:?}");
    if clean_first && row.phase == Phase::Write {
        let is_clean = |position: &u64| task.cleaned.contains(position) || task.missing.contains(position);
        assert!((row.start.0..row.end.0).all(|position| is_clean(&position)), "{task:?}");
    }
}
