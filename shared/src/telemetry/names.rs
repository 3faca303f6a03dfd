//! The names of the metrics that this crate counts, each in one typed function or constant.

use std::sync::Arc;

use metrics::counter;

/// Tasks that failed, by name.
pub const TASK_FAILURES: &str = "reprise_task_failures_total";

/// Counts the failure of a supervised task.
pub fn task_failed(task: &Arc<str>) {
    counter!(TASK_FAILURES, "task" => task.clone()).increment(1);
}
