//! What always holds for jobs, and that they come to an end.

use std::time::Duration;

use super::step::Step;
use super::task::{Task, check_task};
use super::world::{Job, LEASE, SLOTS, World};
use crate::jobs::states::{Event, JobState, TaskState};

impl World {
    pub(super) fn check(&self) {
        for job in &self.jobs {
            for task in &job.tasks {
                check_task(task, job.shape.clean_first);
            }
            let has = |state: TaskState| job.tasks.iter().any(|task| task.row.state == state);
            if job.state.is_final() || job.state == JobState::Paused {
                assert!(!has(TaskState::Running), "{job:?}");
            }
            match job.state {
                JobState::Succeeded | JobState::Partial => {
                    assert!(
                        job.tasks.iter().all(|task| task.row.state == TaskState::Done),
                        "{job:?}"
                    );
                    let is_missing = job.tasks.iter().any(|task| !task.missing.is_empty());
                    assert_eq!(is_missing, job.state == JobState::Partial, "{job:?}");
                }
                JobState::Cancelled => assert!(!has(TaskState::Pending), "{job:?}"),
                JobState::Pending
                | JobState::Running
                | JobState::Pausing
                | JobState::Paused
                | JobState::Cancelling
                | JobState::Failed => assert!(!has(TaskState::Cancelled), "{job:?}"),
            }
            if let Some(then) = &job.ended {
                assert_eq!(ended(job), *then, "a job that ended moved");
            }
        }
    }

    /// All workers die; one that does everything right comes, and everything paused is resumed.
    pub(super) fn bring_to_the_end(&mut self) {
        (0..SLOTS).for_each(|slot| self.die(slot));
        for _ in 0..200 {
            self.advance(LEASE + Duration::from_secs(1));
            for number in 0..self.jobs.len() {
                self.ask(number, Event::Resume);
                self.settle(number);
            }
            self.claim(0);
            while let Some((job, next)) = self.slots[0].as_ref().map(|run| (run.job, run.next)) {
                self.take(&Step::Write(0));
                self.take(&Step::Checkpoint(0));
                if self.slots[0].as_ref().is_some_and(|run| run.next == next) {
                    self.take(&Step::Finish(0));
                    self.die(0);
                    self.settle(job);
                }
                self.check();
            }
            if self.jobs.iter().all(|job| job.state.is_final()) {
                return;
            }
        }
        panic!("a task was lost: {:?}", self.jobs);
    }
}

/// All of a job that must not move after its end: its state, and everything about its tasks but what Kafka keeps.
pub(super) fn ended(job: &Job) -> String {
    let task = |task: &Task| {
        format!(
            "{:?} {:?} {:?} {:?}",
            task.row, task.written, task.cleaned, task.missing
        )
    };
    let tasks: Vec<String> = job.tasks.iter().map(task).collect();
    format!("{:?} {tasks:?}", job.state)
}
