//! Limits of the whitelist.

use std::time::Duration;

use reprise_shared::config::{Faults, Validate};
use reprise_shared::whitelist::Writer;
use serde::{Deserialize, Serialize};

/// Limits of the whitelist. Each change needs two connections of the MySQL pool at a time, and one process makes one
/// change at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// A change that has no certain outcome after this long is `unknown` until the reconciler settles it. 15 s.
    #[serde(with = "humantime_serde")]
    pub change_deadline: Duration,
    /// MySQL may take this much longer to write down what became of a change. 10 s.
    #[serde(with = "humantime_serde")]
    pub commit_grace: Duration,
    /// Settling what others left, up to a change of all entries, may take this long. 2 min.
    #[serde(with = "humantime_serde")]
    pub settle_limit: Duration,
    /// The pause before MySQL and Redis are compared again, and due entries removed. 4 s: an emptied Redis is healed within 5 s.
    #[serde(with = "humantime_serde")]
    pub reconcile_every: Duration,
    /// How often heartbeats are looked at while somebody waits for convergence. 20 ms.
    #[serde(with = "humantime_serde")]
    pub convergence_poll: Duration,
    /// One request carries at most this many ids. 200,000.
    pub max_ids: usize,
    /// All lists together hold at most this many entries: one call must be able to put them all in place. 500,000.
    pub max_entries: usize,
    /// An id has at most this many bytes; the column holds 128.
    pub max_id_bytes: usize,
    /// A page holds at most this many entries or versions. 1,000.
    pub max_page: usize,
    /// An outcome lists at most this many ids of each kind; its counts are always exact. 1,000.
    pub max_reported_ids: usize,
    /// A notice to workers carries the ids of changes up to this size. 1,000.
    pub max_notice_ids: usize,
    /// One run of the reconciler removes at most this many due entries of a list. 10,000.
    pub max_due: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            change_deadline: Duration::from_secs(15),
            commit_grace: Duration::from_secs(10),
            settle_limit: Duration::from_secs(120),
            reconcile_every: Duration::from_secs(4),
            convergence_poll: Duration::from_millis(20),
            max_ids: 200_000,
            max_entries: 500_000,
            max_id_bytes: Self::ID_COLUMN,
            max_page: 1_000,
            max_reported_ids: 1_000,
            max_notice_ids: Writer::DEFAULT_MAX_NOTICE_IDS,
            max_due: 10_000,
        }
    }
}

impl Config {
    /// What the column of ids holds.
    const ID_COLUMN: usize = 128;
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(300));
        for (key, value) in [
            ("change_deadline", self.change_deadline),
            ("commit_grace", self.commit_grace),
            ("settle_limit", self.settle_limit),
            ("reconcile_every", self.reconcile_every),
            ("convergence_poll", self.convergence_poll),
        ] {
            if !(least..=most).contains(&value) {
                faults.add(key, format!("is {value:?}"), "10ms to 5m");
            }
        }
        // A replacement carries what it adds and what it removes.
        let most_entries = Writer::MAX_IDS / 2;
        for (key, value, most) in [
            ("max_ids", self.max_ids, most_entries),
            ("max_entries", self.max_entries, most_entries),
            ("max_id_bytes", self.max_id_bytes, Self::ID_COLUMN),
            ("max_page", self.max_page, 10_000),
            ("max_reported_ids", self.max_reported_ids, 100_000),
            ("max_notice_ids", self.max_notice_ids, 100_000),
            ("max_due", self.max_due, most_entries),
        ] {
            if !(1..=most).contains(&value) {
                faults.add(key, format!("is {value}"), format!("1 to {most}"));
            }
        }
    }
}
