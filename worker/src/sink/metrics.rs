//! What the sink counts: every name stands here and nowhere else in it.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use reprise_shared::tally::RowCounts;

/// Rows of committed batches, by `data_type` and `outcome`.
const ROWS: &str = "reprise_sink_rows_total";
/// Rows of committed batches that were looked at again, by `data_type`.
const SAMPLED: &str = "reprise_sink_sampled_rows_total";
/// Those of them that had found a newer row stored, by `data_type`.
const STALE: &str = "reprise_sink_sampled_stale_rows_total";
/// Letters from decode in committed batches, by `data_type`.
const LETTERS: &str = "reprise_sink_letters_total";
/// Seconds from a batch's first try to its commit, by `data_type`.
const BATCH_SECONDS: &str = "reprise_sink_batch_seconds";
/// Tries that failed, by `lane` and `class` (`deadline` for a batch that passed its deadline).
const RETRIES: &str = "reprise_sink_retries_total";
/// How long the batch that is being tried again has been waiting, by `lane`; 0 while there is none.
const OLDEST_BATCH: &str = "reprise_sink_oldest_batch_seconds";
/// Connections opened, by `lane`.
const CONNECTS: &str = "reprise_sink_connects_total";

/// The metrics of one data type.
pub(super) struct TypeMetrics {
    written: Counter,
    superseded: Counter,
    dead_lettered: Counter,
    letters: Counter,
    sampled: Counter,
    stale: Counter,
    seconds: Histogram,
}

impl TypeMetrics {
    pub(super) fn new(data_type: &str) -> Self {
        let name: Arc<str> = data_type.into();
        let rows = |outcome: &'static str| counter!(ROWS, "data_type" => name.clone(), "outcome" => outcome);
        Self {
            written: rows("written"),
            superseded: rows("superseded"),
            dead_lettered: rows("dead_lettered"),
            letters: counter!(LETTERS, "data_type" => name.clone()),
            sampled: counter!(SAMPLED, "data_type" => name.clone()),
            stale: counter!(STALE, "data_type" => name.clone()),
            seconds: histogram!(BATCH_SECONDS, "data_type" => name.clone()),
        }
    }

    pub(super) fn committed(&self, rows: RowCounts, letters: usize, seconds: f64) {
        self.written.increment(rows.written);
        self.superseded.increment(rows.superseded);
        self.dead_lettered.increment(rows.dead_lettered);
        self.letters.increment(letters as u64);
        self.seconds.record(seconds);
    }
}

impl TypeMetrics {
    pub(super) fn sampled(&self, rows: usize, stale: u64) {
        self.sampled.increment(rows as u64);
        self.stale.increment(stale);
    }
}

/// The metrics of one lane.
pub(super) struct LaneMetrics {
    lane: Arc<str>,
    oldest: Gauge,
    connects: Counter,
}

impl LaneMetrics {
    pub(super) fn new(lane: &str) -> Self {
        let lane: Arc<str> = lane.into();
        Self {
            oldest: gauge!(OLDEST_BATCH, "lane" => lane.clone()),
            connects: counter!(CONNECTS, "lane" => lane.clone()),
            lane,
        }
    }

    pub(super) fn connected(&self) {
        self.connects.increment(1);
    }

    pub(super) fn retried(&self, class: &'static str, age: std::time::Duration) {
        counter!(RETRIES, "lane" => self.lane.clone(), "class" => class).increment(1);
        self.oldest.set(age.as_secs_f64());
    }

    pub(super) fn settled(&self) {
        self.oldest.set(0.0);
    }
}
