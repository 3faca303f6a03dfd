//! The counts that every record and row ends in, the same words everywhere.
//!
//! For any closed interval: `consumed = processed + filtered + skipped + deferred + dead_lettered` for records and
//! `produced = written + superseded + dead_lettered` for rows. `written` includes rows that the guard left alone
//! because the table held a newer one.
//!
//! Written as JSON they name what is not zero: the ledger has one of each for every range, and most of the words are
//! rarely needed.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Records by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordCounts {
    /// Records that yielded rows (also none, from an empty array).
    #[serde(skip_serializing_if = "is_zero")]
    pub processed: u64,
    /// Records whose id is not whitelisted.
    #[serde(skip_serializing_if = "is_zero")]
    pub filtered: u64,
    /// Tombstones, and unmatched records where the topic says so.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Records passed over because their type was stopped.
    #[serde(skip_serializing_if = "is_zero")]
    pub deferred: u64,
    /// Records that a fault left without rows.
    #[serde(skip_serializing_if = "is_zero")]
    pub dead_lettered: u64,
}

impl RecordCounts {
    /// Returns how many records were consumed in all.
    pub fn consumed(&self) -> u64 {
        self.processed + self.filtered + self.skipped + self.deferred + self.dead_lettered
    }
}

impl AddAssign for RecordCounts {
    fn add_assign(&mut self, other: Self) {
        self.processed += other.processed;
        self.filtered += other.filtered;
        self.skipped += other.skipped;
        self.deferred += other.deferred;
        self.dead_lettered += other.dead_lettered;
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields like this")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Rows by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RowCounts {
    /// Rows that a committed upsert carried, stale ones included.
    #[serde(skip_serializing_if = "is_zero")]
    pub written: u64,
    /// Rows that lost to a newer row of their key in their batch.
    #[serde(skip_serializing_if = "is_zero")]
    pub superseded: u64,
    /// Rows that became dead letters.
    #[serde(skip_serializing_if = "is_zero")]
    pub dead_lettered: u64,
}

impl RowCounts {
    /// Returns how many rows have an outcome.
    pub fn settled(&self) -> u64 {
        self.written + self.superseded + self.dead_lettered
    }
}

impl AddAssign for RowCounts {
    fn add_assign(&mut self, other: Self) {
        self.written += other.written;
        self.superseded += other.superseded;
        self.dead_lettered += other.dead_lettered;
    }
}
