//! The worker's metrics: every name in one place. Counters end in `_total`, times are in seconds, sizes in bytes.

use std::time::Duration;

use metrics::{Label, counter, gauge, histogram};
use reprise_shared::ingest_state::stops::PartitionStopReason;
use reprise_shared::position::TopicPartition;
use reprise_shared::tally::{RecordCounts, RowCounts};

/// Counts records and rows whose outcome entered the ledger.
pub(crate) fn accounted(at: &TopicPartition, data_type: &str, records: &RecordCounts, produced: u64, rows: &RowCounts) {
    let label = |count: u64, name: &'static str, outcome: Option<&'static str>| {
        if count > 0 {
            let mut labels = vec![
                Label::new("topic", at.topic.to_string()),
                Label::new("partition", at.partition.to_string()),
                Label::new("data_type", data_type.to_owned()),
            ];
            labels.extend(outcome.map(|outcome| Label::from_static_parts("outcome", outcome)));
            counter!(name, labels).increment(count);
        }
    };
    for (outcome, count) in [
        ("processed", records.processed),
        ("filtered", records.filtered),
        ("skipped", records.skipped),
        ("deferred", records.deferred),
        ("dead_lettered", records.dead_lettered),
    ] {
        label(count, "reprise_records_total", Some(outcome));
    }
    for (outcome, count) in [
        ("written", rows.written),
        ("superseded", rows.superseded),
        ("dead_lettered", rows.dead_lettered),
    ] {
        label(count, "reprise_rows_total", Some(outcome));
    }
    label(produced, "reprise_rows_produced_total", None);
}

/// Counts records as Kafka delivered them.
pub(crate) fn consumed(topic: &str, partition: u16, records: u64) {
    counter!("reprise_records_consumed_total", "topic" => topic.to_owned(), "partition" => partition.to_string())
        .increment(records);
}

/// Counts dead letters by class.
pub(crate) fn dead_letter(data_type: &str, class: &'static str) {
    counter!("reprise_dead_letters_total", "data_type" => data_type.to_owned(), "class" => class).increment(1);
}

/// Shows that a type was stopped.
pub(crate) fn type_stopped(data_type: &str, reason: &str) {
    gauge!("reprise_type_stopped", "data_type" => data_type.to_owned(), "reason" => reason.to_owned()).set(1.0);
}

/// Shows that a type goes on.
pub(crate) fn type_resumed(data_type: &str, reason: &str) {
    gauge!("reprise_type_stopped", "data_type" => data_type.to_owned(), "reason" => reason.to_owned()).set(0.0);
}

/// Counts changes of the database's server that this worker found out.
pub(crate) fn database_changed() {
    counter!("reprise_database_changed_total").increment(1);
}

/// Counts disagreements of key and id.
pub(crate) fn key_disagreed(data_type: &str) {
    counter!("reprise_key_mismatch_alarms_total", "data_type" => data_type.to_owned()).increment(1);
}

/// Shows that a partition was stopped.
pub(crate) fn partition_stopped(topic: &str, partition: u16, reason: &'static str) {
    gauge!("reprise_partition_stopped", "topic" => topic.to_owned(), "partition" => partition.to_string(),
        "reason" => reason)
    .set(1.0);
}

/// Takes the sign of a stop away: the partition is read.
pub(crate) fn partition_reads(topic: &str, partition: u16) {
    for reason in PartitionStopReason::ALL {
        gauge!("reprise_partition_stopped", "topic" => topic.to_owned(), "partition" => partition.to_string(),
            "reason" => reason.as_str())
        .set(0.0);
    }
}

/// Shows whether the broker has a declared topic.
pub(crate) fn topic_missing(topic: &str, missing: bool) {
    gauge!("reprise_topic_missing", "topic" => topic.to_owned()).set(if missing { 1.0 } else { 0.0 });
}

/// Counts chunks whose outcomes do not add up to what was delivered: a fault of ours that must be looked into.
pub(crate) fn does_not_add_up() {
    counter!("reprise_accounting_errors_total").increment(1);
}

/// Shows how much is in flight and whether the intake is held.
pub(crate) fn intake(rows: usize, bytes: usize, uncommitted: u64, held: bool) {
    gauge!("reprise_in_flight_rows").set(rows as f64);
    gauge!("reprise_in_flight_bytes").set(bytes as f64);
    gauge!("reprise_uncommitted_records").set(uncommitted as f64);
    gauge!("reprise_intake_held").set(if held { 1.0 } else { 0.0 });
}

/// Shows a partition's lag in records, as the client last saw the log's end.
pub(crate) fn lag(topic: &str, partition: u16, records: u64) {
    gauge!("reprise_lag_records", "topic" => topic.to_owned(), "partition" => partition.to_string())
        .set(records as f64);
}

/// Counts and times the steps of a tick.
pub(crate) fn tick(step: &'static str, done: bool, took: Duration) {
    let outcome = if done { "done" } else { "failed" };
    counter!("reprise_tick_steps_total", "step" => step, "outcome" => outcome).increment(1);
    histogram!("reprise_tick_step_seconds", "step" => step).record(took.as_secs_f64());
}

/// Counts partitions that stood still although they have lag.
pub(crate) fn stalled(topic: &str, partition: u16) {
    counter!("reprise_partition_stalls_total", "topic" => topic.to_owned(), "partition" => partition.to_string())
        .increment(1);
}

/// Shows what decides about the speed of replays.
pub(crate) fn live_first(live_lag: Option<u64>, latency: Duration, held: bool, rests: bool) {
    let flag = |is: bool| if is { 1.0 } else { 0.0 };
    gauge!("reprise_replay_live_lag_records").set(live_lag.map_or(-1.0, |lag| lag as f64));
    gauge!("reprise_replay_database_latency_seconds").set(latency.as_secs_f64());
    gauge!("reprise_replay_held").set(flag(held));
    gauge!("reprise_replay_rests").set(flag(rests));
}

/// Counts tasks by how their run ended.
pub(crate) fn task_ended(outcome: &'static str) {
    counter!("reprise_replay_tasks_total", "outcome" => outcome).increment(1);
}

/// Shows how many tasks run here.
pub(crate) fn tasks_running(count: usize) {
    gauge!("reprise_replay_tasks_running").set(count as f64);
}

/// Counts records that tasks read.
pub(crate) fn task_read(data_type: &str, records: u64) {
    counter!("reprise_replay_records_read_total", "data_type" => data_type.to_owned()).increment(records);
}
