//! The metrics that this crate counts: every name stands here and nowhere else.

use std::sync::Arc;

use metrics::{Counter, Gauge, counter, gauge};

/// Tasks that failed, by `task`.
pub const TASK_FAILURES: &str = "reprise_task_failures_total";
/// Keys that a lookup's cache answered, by `lookup`.
pub const LOOKUP_HITS: &str = "reprise_lookup_hits_total";
/// Keys that a lookup's cache could not answer, by `lookup`.
pub const LOOKUP_MISSES: &str = "reprise_lookup_misses_total";
/// Queries sent to a lookup's table, by `lookup`.
pub const LOOKUP_QUERIES: &str = "reprise_lookup_queries_total";
/// Queries to a lookup's table that failed, by `lookup`.
pub const LOOKUP_FAILURES: &str = "reprise_lookup_failures_total";
/// Rows read from a lookup's table, by `lookup`.
pub const LOOKUP_ROWS: &str = "reprise_lookup_rows_total";
/// Keys in a lookup's cache, expired ones included, by `lookup`.
pub const LOOKUP_ENTRIES: &str = "reprise_lookup_entries";
/// Keys that wait for their refresh, by `lookup`.
pub const LOOKUP_REFRESH_BACKLOG: &str = "reprise_lookup_refresh_backlog";

/// Counts the failure of a supervised task.
pub fn task_failed(task: &Arc<str>) {
    counter!(TASK_FAILURES, "task" => task.clone()).increment(1);
}

/// One lookup's metrics, looked up once because hits are counted for every record.
pub(crate) struct LookupMetrics {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) queries: Counter,
    pub(crate) failures: Counter,
    pub(crate) rows: Counter,
    pub(crate) entries: Gauge,
    pub(crate) refresh_backlog: Gauge,
}

impl LookupMetrics {
    pub(crate) fn of(lookup: &str) -> Self {
        let lookup = lookup.to_owned();
        Self {
            hits: counter!(LOOKUP_HITS, "lookup" => lookup.clone()),
            misses: counter!(LOOKUP_MISSES, "lookup" => lookup.clone()),
            queries: counter!(LOOKUP_QUERIES, "lookup" => lookup.clone()),
            failures: counter!(LOOKUP_FAILURES, "lookup" => lookup.clone()),
            rows: counter!(LOOKUP_ROWS, "lookup" => lookup.clone()),
            entries: gauge!(LOOKUP_ENTRIES, "lookup" => lookup.clone()),
            refresh_backlog: gauge!(LOOKUP_REFRESH_BACKLOG, "lookup" => lookup),
        }
    }
}
