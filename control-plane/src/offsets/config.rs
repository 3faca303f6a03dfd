//! Limits of questions about offsets.

use std::time::Duration;

use reprise_shared::config::{Faults, Validate};
use reprise_shared::ledger::{PurgeStep, Reader};
use serde::{Deserialize, Serialize};

/// Limits of questions about offsets, and of purges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// One call reads at most this many members of the ledger. 2,000.
    pub max_read: usize,
    /// One page of a list looks at no more than about this many ranges, whether they match or not. 20,000.
    pub max_looked_at: usize,
    /// One question about times reads at most this many ranges of a partition. 100,000.
    pub max_ranges: usize,
    /// One page of an audit has no more intervals than this, one partition of it included. 10,000.
    pub max_intervals: usize,
    /// One step of a purge reads at most this many ranges: about 1 ms of Redis. 150.
    pub max_scan: u32,
    /// One step of a purge removes at most this many. 150.
    pub max_deletes: u32,
    /// Redis is left alone for this long between two steps of a purge. 5 ms.
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
}

impl Config {
    /// Returns the limits of one step of a purge.
    pub fn step(&self) -> PurgeStep {
        PurgeStep {
            max_scan: self.max_scan,
            max_deletes: self.max_deletes,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let step = PurgeStep::default();
        Self {
            max_read: 2_000,
            max_looked_at: 20_000,
            max_ranges: 100_000,
            max_intervals: 10_000,
            max_scan: step.max_scan,
            max_deletes: step.max_deletes,
            pause: Duration::from_millis(5),
        }
    }
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        for (key, value, least, most) in [
            ("max_read", self.max_read, 1, Reader::MAX_PAGE),
            ("max_looked_at", self.max_looked_at, 1, 1_000_000),
            ("max_ranges", self.max_ranges, 1, 10_000_000),
            ("max_intervals", self.max_intervals, 1, 100_000),
        ] {
            faults.check_range(key, value, least, most);
        }
        for (key, value) in [("max_scan", self.max_scan), ("max_deletes", self.max_deletes)] {
            faults.check_range(key, value, 1, 10_000);
        }
        faults.check_range("pause", self.pause, Duration::ZERO, Duration::from_secs(10));
    }
}
