//! What a replay worker may take, and how it makes room for live traffic.

use std::time::Duration;

use bytesize::ByteSize;
use reprise_shared::config::{Faults, Validate};
use serde::{Deserialize, Serialize};

use super::live_first;

/// A replay worker's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Tasks at once, each with threads and connections of its own.
    pub max_tasks: usize,
    /// Another worker takes a task over whose owner was silent for so long, by the database's clock.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// The time between two renewals of a lease.
    #[serde(with = "humantime_serde")]
    pub renew: Duration,
    /// The time between two checkpoints, which also tell whether to go on. Pause and cancel take effect within two.
    #[serde(with = "humantime_serde")]
    pub checkpoint: Duration,
    /// How long batches in flight may take when a task is let go; what is not done then is done again.
    #[serde(with = "humantime_serde")]
    pub let_go: Duration,
    /// The time between two looks for a task while there is none.
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    /// Claims of a task without any progress before it fails.
    pub max_attempts: u32,
    /// Memory for records that the client fetched ahead, per task.
    pub fetch_ahead: ByteSize,
    /// Chunks that wait for the decode thread, per task.
    pub decode_queue: usize,
    /// Rows and letters between decode and the database, per task.
    pub max_rows_in_flight: usize,
    /// Bytes of records between Kafka and the database, per task.
    pub max_bytes_in_flight: ByteSize,
    /// One Kafka call may take this long.
    #[serde(with = "humantime_serde")]
    pub kafka_call: Duration,
    /// A log that ends below a slice, or a topic that is gone, counts as lost data after this long.
    #[serde(with = "humantime_serde")]
    pub lost_after: Duration,
    /// Mismatches that are kept of one VERIFY job.
    pub max_mismatches: u64,
    /// Rows that one transaction of `clean_first` looks for, by their records.
    pub clean_records: usize,
    /// An idle connection of a lane is pinged this often.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// The server closes a lane's silent session after this long: that is how long a vanished worker's locks last.
    #[serde(with = "humantime_serde")]
    pub wait_timeout: Duration,
    /// The server ends a lane's wait for a row lock after this long.
    #[serde(with = "humantime_serde")]
    pub lock_wait_timeout: Duration,
    /// The time between heartbeats.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// How long an orderly shutdown may take in all.
    #[serde(with = "humantime_serde")]
    pub shutdown: Duration,
    /// How replays make room for live traffic.
    pub live_first: live_first::Config,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            max_tasks: 2,
            lease: seconds(30),
            renew: seconds(10),
            checkpoint: seconds(1),
            let_go: Duration::from_millis(800),
            poll: Duration::from_millis(500),
            max_attempts: 5,
            fetch_ahead: ByteSize::mib(8),
            decode_queue: 4,
            max_rows_in_flight: 20_000,
            max_bytes_in_flight: ByteSize::mib(16),
            kafka_call: seconds(10),
            lost_after: seconds(30),
            max_mismatches: 10_000,
            clean_records: 256,
            ping_interval: seconds(1),
            wait_timeout: seconds(5),
            lock_wait_timeout: seconds(3),
            heartbeat: seconds(2),
            shutdown: seconds(25),
            live_first: live_first::Config::default(),
        }
    }
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        let milliseconds = Duration::from_millis;
        let seconds = Duration::from_secs;
        for (key, value, least, most) in [
            ("lease", self.lease, seconds(2), seconds(600)),
            ("renew", self.renew, milliseconds(200), seconds(300)),
            ("checkpoint", self.checkpoint, milliseconds(50), seconds(1)),
            ("let_go", self.let_go, milliseconds(50), seconds(1)),
            ("poll", self.poll, milliseconds(50), seconds(60)),
            ("kafka_call", self.kafka_call, milliseconds(500), seconds(60)),
            ("lost_after", self.lost_after, milliseconds(100), seconds(600)),
            ("ping_interval", self.ping_interval, milliseconds(100), seconds(60)),
            ("wait_timeout", self.wait_timeout, seconds(1), seconds(600)),
            ("lock_wait_timeout", self.lock_wait_timeout, seconds(1), seconds(60)),
            ("heartbeat", self.heartbeat, milliseconds(200), seconds(30)),
            ("shutdown", self.shutdown, seconds(2), seconds(600)),
        ] {
            faults.check_range(key, value, least, most);
        }
        for (key, value, least, most) in [
            ("max_tasks", self.max_tasks as u64, 1, 64),
            ("max_attempts", u64::from(self.max_attempts), 1, 100),
            ("fetch_ahead", self.fetch_ahead.as_u64(), 1 << 20, 1 << 30),
            ("decode_queue", self.decode_queue as u64, 1, 1_024),
            ("max_rows_in_flight", self.max_rows_in_flight as u64, 1_000, 10_000_000),
            (
                "max_bytes_in_flight",
                self.max_bytes_in_flight.as_u64(),
                4 << 20,
                16 << 30,
            ),
            ("max_mismatches", self.max_mismatches, 1, 1_000_000),
            ("clean_records", self.clean_records as u64, 1, 10_000),
        ] {
            faults.check_range(key, value, least, most);
        }
        if self.renew * 2 > self.lease {
            let problem = format!("{:?} is too long", self.renew);
            faults.add(
                "renew",
                problem,
                "at most half of replay.lease, so that one lost renewal does no harm",
            );
        }
        if self.ping_interval * 2 > self.wait_timeout {
            let problem = format!("{:?} is too long", self.ping_interval);
            faults.add("ping_interval", problem, "at most half of replay.wait_timeout");
        }
        faults.section("live_first", &self.live_first);
    }
}
