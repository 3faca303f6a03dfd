//! The bounds of lanes.

use std::time::Duration;

use reprise_shared::config::{Faults, Validate};

use crate::sink::shared;

/// More lanes a table than this make no sense.
pub(super) const MOST_LANES: usize = 64;

/// The bounds of lanes.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// Lanes, and so connections, per table. 1 to 64.
    pub per_table: usize,
    /// An idle connection is pinged this often; well below `wait_timeout`.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// The server closes a lane's silent session after this long, so that a vanished host's locks end.
    #[serde(with = "humantime_serde")]
    pub wait_timeout: Duration,
    /// The server ends a wait for a row lock after this long.
    #[serde(with = "humantime_serde")]
    pub lock_wait_timeout: Duration,
    /// Letters of one transaction at most.
    pub max_letters: usize,
    /// Bytes of the records of one transaction's letters at most (one letter is always taken).
    pub max_letter_bytes: usize,
    /// The bounds of writing.
    pub writer: shared::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            per_table: 2,
            ping_interval: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(20),
            lock_wait_timeout: Duration::from_secs(5),
            max_letters: 256,
            max_letter_bytes: 16 << 20,
            writer: shared::Config::default(),
        }
    }
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        let seconds = Duration::from_secs;
        for (key, value, least, most) in [
            (
                "ping_interval",
                self.ping_interval,
                Duration::from_millis(100),
                seconds(60),
            ),
            ("wait_timeout", self.wait_timeout, seconds(1), seconds(600)),
            ("lock_wait_timeout", self.lock_wait_timeout, seconds(1), seconds(60)),
        ] {
            faults.check_range(key, value, least, most);
        }
        faults.check_range("per_table", self.per_table, 1, MOST_LANES);
        faults.check_range("max_letters", self.max_letters, 1, 10_000);
        faults.check_range("max_letter_bytes", self.max_letter_bytes, 1, 1 << 30);
        if self.ping_interval * 2 > self.wait_timeout {
            let problem = format!("{:?} is too long", self.ping_interval);
            faults.add("ping_interval", problem, "at most half of lanes.wait_timeout");
        }
        faults.section("writer", &self.writer);
    }
}
