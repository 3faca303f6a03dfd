//! What can happen.

use std::time::Duration;

use crate::jobs::states::Event;

/// A job to be made.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// How many positions each task has.
    pub(super) tasks: Vec<u64>,
    pub(super) clean_first: bool,
    pub(super) allow_partial: bool,
    pub(super) priority: i16,
}

/// One thing that happens. Numbers that name nothing make it do nothing.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Advance(Duration),
    Claim(usize),
    /// A whole batch of one position.
    Write(usize),
    /// The first half of a batch, up to its commit.
    Open(usize),
    /// The second half.
    Commit(usize),
    Checkpoint(usize),
    Renew(usize),
    Release {
        slot: usize,
        with_error: bool,
    },
    Finish(usize),
    FailTask(usize),
    /// The worker is killed.
    Die(usize),
    /// Kafka deletes the first positions of a task's slice.
    Expire {
        job: usize,
        task: usize,
        by: u64,
    },
    Ask {
        job: usize,
        event: Event,
    },
    Settle(usize),
    FailJob(usize),
}
