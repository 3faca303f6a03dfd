//! How a task passes from owner to owner: pure, so that it can be simulated.
//!
//! The epoch goes up when an owner comes and again when it goes, whatever the reason. So a task that nobody owns has
//! an epoch that nobody was ever given, and a batch of a former owner finds no row at its own (I5).

use jiff::Timestamp;

use super::model::{Phase, ReadCounts};
use super::reasons;
use super::states::{JobState, TaskState};
use crate::leases::Epoch;
use crate::position::Offset;

const MAX_ERROR_CHARACTERS: usize = 1_000;

/// The part of a task's row that says whose it is and how far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ownership {
    /// Its state.
    pub(super) state: TaskState,
    /// Its phase.
    pub(super) phase: Phase,
    /// The first position; never changes.
    pub(super) start: Offset,
    /// The position after the last one; never changes.
    pub(super) end: Offset,
    /// Everything before it has its outcome.
    pub(super) checkpoint: Offset,
    /// What fences former owners; the lanes have the same.
    pub(super) epoch: Epoch,
    /// Who runs it; empty: nobody.
    pub(super) owner: String,
    /// Until when, by the database's clock.
    pub(super) lease_until: Option<Timestamp>,
    /// Claims since the checkpoint moved last.
    pub(super) attempts: u32,
    /// What was read up to the checkpoint.
    pub(super) read: ReadCounts,
    /// Why it failed, in one word.
    pub(super) reason: String,
    /// The error of the last attempt that failed.
    pub(super) error: String,
}

/// What a worker that looks for work does with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Leaves it alone.
    Leave,
    /// Claims it.
    Claim,
    /// Fails it: it was claimed too often without coming further.
    GiveUp,
}

/// What an owner's last word about its task met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The task changed.
    Changed,
    /// It had been said before, and the answer was lost.
    Known,
    /// The task is not the caller's any more.
    Lost,
}

impl Ownership {
    /// Judges a task under its lock. While a job cleans, none of its tasks writes: what one slice wrote could be what
    /// another deletes, or could have lost to it.
    pub(super) fn judge(&self, job: JobState, is_cleaning: bool, now: Timestamp, max_attempts: u32) -> Judgement {
        let is_free = match self.state {
            TaskState::Pending => true,
            TaskState::Running => !self.is_held(now),
            TaskState::Done | TaskState::Failed | TaskState::Cancelled => false,
        };
        let has_to_wait = is_cleaning && self.phase == Phase::Write;
        if !is_free || has_to_wait || !job.is_claimable() {
            Judgement::Leave
        } else if self.attempts >= max_attempts {
            Judgement::GiveUp
        } else {
            Judgement::Claim
        }
    }

    /// Tells whether a worker runs it under a lease that did not run out.
    pub(super) fn is_held(&self, now: Timestamp) -> bool {
        self.state == TaskState::Running && self.lease_until.is_some_and(|until| until >= now)
    }

    /// Gives it to a new owner.
    pub(super) fn claim(&mut self, owner: &str, lease_until: Timestamp) {
        self.state = TaskState::Running;
        self.epoch = next(self.epoch);
        owner.clone_into(&mut self.owner);
        self.lease_until = Some(lease_until);
        self.attempts += 1;
    }

    /// Moves the checkpoint ahead; a position behind it changes nothing. `false`: the task is not the caller's any
    /// more.
    pub(super) fn advance(&mut self, epoch: Epoch, position: Offset, read: ReadCounts) -> bool {
        if !self.is_owned_at(epoch) {
            return false;
        }
        if position > self.checkpoint {
            self.attempts = 0;
        }
        if position >= self.checkpoint {
            self.checkpoint = position;
            self.read = read;
        }
        true
    }

    /// Lets the owner go. Without an error its claim does not count as an attempt.
    pub(super) fn release(&mut self, epoch: Epoch, position: Offset, read: ReadCounts, error: Option<&str>) -> Ending {
        if self.state == TaskState::Pending && self.epoch == next(epoch) {
            return Ending::Known;
        }
        if !self.advance(epoch, position, read) {
            return Ending::Lost;
        }
        match error {
            None => self.attempts = self.attempts.saturating_sub(1),
            Some(error) => self.error = cut(error),
        }
        self.end(TaskState::Pending);
        Ending::Changed
    }

    /// Ends a phase: the task is done, or goes from cleaning back to its start to be written.
    pub(super) fn finish(&mut self, epoch: Epoch, phase: Phase, read: ReadCounts) -> Ending {
        let (state, next_phase) = match phase {
            Phase::Clean => (TaskState::Pending, Phase::Write),
            Phase::Write => (TaskState::Done, Phase::Write),
        };
        if (self.state, self.phase, self.epoch) == (state, next_phase, next(epoch)) {
            return Ending::Known;
        }
        if !self.is_owned_at(epoch) || self.phase != phase {
            return Ending::Lost;
        }
        self.attempts = 0;
        (self.checkpoint, self.read) = match phase {
            Phase::Clean => (self.start, ReadCounts::default()),
            Phase::Write => (self.end, read),
        };
        self.phase = next_phase;
        self.error.clear();
        self.end(state);
        Ending::Changed
    }

    /// Fails it: it cannot go on.
    pub(super) fn fail(&mut self, epoch: Epoch, reason: &str, error: &str) -> Ending {
        if self.state == TaskState::Failed && self.epoch == next(epoch) {
            return Ending::Known;
        }
        if !self.is_owned_at(epoch) {
            return Ending::Lost;
        }
        self.fail_with(reason, error);
        Ending::Changed
    }

    /// Fails it after too many attempts.
    pub(super) fn give_up(&mut self) {
        let last = if self.error.is_empty() {
            "none of them said why: their workers ended or lost their connections".to_owned()
        } else {
            format!("the last error: {}", self.error)
        };
        let error = format!(
            "{} attempts came no further than position {}; {last}",
            self.attempts, self.checkpoint
        );
        self.fail_with(reasons::ATTEMPTS_EXHAUSTED, &error);
    }

    /// Takes it away from whoever has it.
    pub(super) fn fence(&mut self, state: TaskState) {
        self.end(state);
    }

    /// Tells whether the owner that was given this epoch still is the owner.
    pub(super) fn is_owned_at(&self, epoch: Epoch) -> bool {
        self.state == TaskState::Running && self.epoch == epoch
    }

    fn fail_with(&mut self, reason: &str, error: &str) {
        reason.clone_into(&mut self.reason);
        self.error = cut(error);
        self.end(TaskState::Failed);
    }

    fn end(&mut self, state: TaskState) {
        self.state = state;
        self.epoch = next(self.epoch);
        self.owner.clear();
        self.lease_until = None;
    }
}

fn next(epoch: Epoch) -> Epoch {
    Epoch(epoch.0 + 1)
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_ERROR_CHARACTERS).collect()
}
