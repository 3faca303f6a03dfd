//! The control plane's metrics: every name in one place. Counters end in `_total`, times are in seconds.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use reprise_shared::jobs::{Census, JobState};

/// Counts a call that ended and records how long it took. `method` is one of ours, or `unknown`.
pub(crate) fn call_ended(method: &'static str, code: tonic::Code, took: Duration) {
    counter!("reprise_grpc_calls_total", "method" => method, "code" => format!("{code:?}")).increment(1);
    histogram!("reprise_grpc_call_seconds", "method" => method).record(took.as_secs_f64());
}

/// Counts a call among those in work.
pub(crate) fn call_began() {
    gauge!("reprise_grpc_calls_in_work").increment(1.0);
}

/// Takes a call out of those in work.
pub(crate) fn call_left() {
    gauge!("reprise_grpc_calls_in_work").decrement(1.0);
}

/// Counts a call that was refused before its service saw it.
pub(crate) fn call_refused(reason: &'static str) {
    counter!("reprise_grpc_refused_total", "reason" => reason).increment(1);
}

/// Shows how many connections are open.
pub(crate) fn connections(count: usize) {
    gauge!("reprise_grpc_connections").set(count as f64);
}

/// Counts a connection that was closed before its first call: `limit` or `handshake`.
pub(crate) fn connection_refused(reason: &'static str) {
    counter!("reprise_grpc_connections_refused_total", "reason" => reason).increment(1);
}

/// Shows whether a file of keys or certificates was changed into something that cannot be used.
pub(crate) fn reload_failed(what: &'static str, failed: bool) {
    gauge!("reprise_reload_failed", "what" => what).set(if failed { 1.0 } else { 0.0 });
}

/// Counts rate limit decisions that were made without Redis.
pub(crate) fn rate_limited_locally() {
    counter!("reprise_rate_limit_local_total").increment(1);
}

/// Counts ranges that purges removed from the ledger.
pub(crate) fn offset_ranges_purged(count: u64) {
    counter!("reprise_offset_ranges_purged_total").increment(count);
}

/// Shows how many jobs are in which state, finished ones for as long as they are kept; and how many tasks wait for a
/// worker and how many run. Every replica shows the same.
pub(crate) fn jobs(census: &Census) {
    for state in JobState::ALL {
        let found = census.jobs.iter().find(|(known, _)| known == state);
        let count = found.map_or(0, |(_, count)| *count);
        gauge!("reprise_jobs", "state" => state.as_str()).set(count as f64);
    }
    for (state, count) in [("waiting", census.waiting), ("running", census.running)] {
        gauge!("reprise_job_tasks", "state" => state).set(count as f64);
    }
}

/// Counts what could not be done of the work that jobs need from the control plane; it is tried again.
pub(crate) fn job_keeping_failed(what: &'static str) {
    counter!("reprise_job_keeping_failures_total", "what" => what).increment(1);
}
