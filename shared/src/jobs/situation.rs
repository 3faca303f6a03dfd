//! What a job comes to, given its tasks and the time: pure, so that it can be simulated.

use std::time::Duration;

use super::states::{Event, JobState, TaskState};

/// Owners may checkpoint and release for this long after a pause or a cancellation was asked for; then they are
/// fenced.
pub const TIME_TO_LET_GO: Duration = Duration::from_millis(1_500);
/// A job fails when only workers with another catalog looked at it for this long.
pub const CATALOG_PATIENCE: Duration = Duration::from_secs(600);

/// How many tasks of a job are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Wait for a worker.
    pub(super) pending: u64,
    /// Running under a lease.
    pub(super) held: u64,
    /// Running, and the lease ran out.
    pub(super) expired: u64,
    /// Done.
    pub(super) done: u64,
    /// Failed.
    pub(super) failed: u64,
    /// Cancelled.
    pub(super) cancelled: u64,
}

/// All that decides about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Situation {
    /// Its state.
    pub(super) state: JobState,
    /// Its tasks.
    pub(super) tasks: Tally,
    /// How long ago a pause or a cancellation was asked for.
    pub(super) asked_for: Option<Duration>,
    /// How long workers have been seeing it whose catalog is another one, and no others.
    pub(super) refused_for: Option<Duration>,
    /// Whether positions are on record as missing.
    pub(super) is_missing: bool,
}

impl Situation {
    /// Returns what is to happen to the job now; `None`: nothing. What it returns is always allowed.
    pub(super) fn due(&self) -> Option<Event> {
        let tasks = &self.tasks;
        let are_all_done = tasks.pending + tasks.held + tasks.expired + tasks.cancelled == 0;
        let is_time_up = self.asked_for.is_none_or(|ago| ago >= TIME_TO_LET_GO);
        let is_refused = self.refused_for.is_some_and(|ago| ago >= CATALOG_PATIENCE);
        let event = if tasks.failed > 0 {
            Event::Fail
        } else if are_all_done {
            if self.is_missing {
                Event::DonePartly
            } else {
                Event::Done
            }
        } else {
            match self.state {
                JobState::Pausing | JobState::Cancelling if tasks.held == 0 || is_time_up => Event::LetGo,
                JobState::Pending | JobState::Running if tasks.held == 0 && is_refused => Event::Fail,
                JobState::Pending if tasks.held > 0 => Event::Claimed,
                JobState::Pending
                | JobState::Running
                | JobState::Pausing
                | JobState::Paused
                | JobState::Cancelling
                | JobState::Succeeded
                | JobState::Partial
                | JobState::Failed
                | JobState::Cancelled => return None,
            }
        };
        self.state.after(event).map(|_| event)
    }
}

/// Returns what a task becomes when its job comes to a state; `None`: it stays as it is. A running task that changes
/// is taken away from its owner.
pub(super) fn fate(job: JobState, task: TaskState) -> Option<TaskState> {
    match task {
        TaskState::Pending | TaskState::Running => match job {
            JobState::Cancelled => Some(TaskState::Cancelled),
            JobState::Paused | JobState::Failed if task == TaskState::Running => Some(TaskState::Pending),
            JobState::Paused
            | JobState::Failed
            | JobState::Pending
            | JobState::Running
            | JobState::Pausing
            | JobState::Cancelling
            | JobState::Succeeded
            | JobState::Partial => None,
        },
        TaskState::Done | TaskState::Failed | TaskState::Cancelled => None,
    }
}
