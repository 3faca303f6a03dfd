//! The tasks that this worker runs, for its heartbeat and for those who look at their topics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use reprise_shared::heartbeat;
use reprise_shared::jobs::{Slice, TaskId};
use reprise_shared::position::{Offset, TopicName, TopicPartition};
use tokio::sync::Notify;

/// Lists running tasks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    lines: Arc<Mutex<BTreeMap<TaskId, Line>>>,
    entered: Arc<Notify>,
}

#[derive(Clone, Debug)]
struct Line {
    partition: TopicPartition,
    position: Offset,
    end: Offset,
    hold_reason: String,
}

/// A task's place in the list, for as long as it runs.
#[derive(Debug)]
pub(super) struct Entry {
    running: Running,
    task: TaskId,
}

impl Running {
    /// Lists a task.
    pub(super) fn enter(&self, task: TaskId, slice: &Slice, position: Offset) -> Entry {
        let line = Line {
            partition: slice.topic_partition.clone(),
            position,
            end: slice.end,
            hold_reason: String::new(),
        };
        self.lines.lock().insert(task, line);
        self.entered.notify_one();
        Entry {
            running: self.clone(),
            task,
        }
    }

    /// Waits until a task began since the last call. For one caller. Cancel-safe.
    pub(super) async fn entered(&self) {
        self.entered.notified().await;
    }

    /// Returns the topics that are read.
    pub(super) fn topics(&self) -> BTreeSet<TopicName> {
        let lines = self.lines.lock();
        lines.values().map(|line| line.partition.topic.clone()).collect()
    }

    /// Returns the heartbeat's lines.
    pub(super) fn lines(&self) -> Vec<heartbeat::Partition> {
        let lines = self.lines.lock();
        lines
            .values()
            .map(|line| heartbeat::Partition {
                topic: line.partition.topic.to_string(),
                partition: line.partition.partition.0,
                status: if line.hold_reason.is_empty() {
                    "running"
                } else {
                    "paused"
                }
                .to_owned(),
                reason: (!line.hold_reason.is_empty()).then(|| line.hold_reason.clone()),
                committed: None,
                position: Some(line.position.0),
                end: Some(line.end.0),
            })
            .collect()
    }
}

impl Entry {
    /// Takes note of how far the task is, and why it is held back.
    pub(super) fn set(&self, position: Offset, hold_reason: &str) {
        if let Some(line) = self.running.lines.lock().get_mut(&self.task) {
            line.position = position;
            hold_reason.clone_into(&mut line.hold_reason);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.running.lines.lock().remove(&self.task);
    }
}
