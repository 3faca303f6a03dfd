//! The worker's configuration: every bound of the pipeline, with its default.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use reprise_shared::config::{Faults, HttpConfig, KafkaConfig, LogConfig, MysqlConfig, RedisConfig, Validate};
use serde::{Deserialize, Serialize};

/// A whole worker configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// What this worker does.
    pub role: Role,
    /// The catalog file.
    pub catalog: PathBuf,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// MySQL.
    pub mysql: MysqlConfig,
    /// Redis.
    pub redis: RedisConfig,
    /// Health and metrics.
    pub http: HttpConfig,
    /// Logs.
    pub log: LogConfig,
    /// What an ingest worker does. A replay worker takes the limits of records from here, and the group whose lag it
    /// looks at.
    pub ingest: IngestConfig,
    /// What a replay worker does.
    pub replay: crate::replay::Config,
    /// How rows are written.
    pub lanes: crate::lanes::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            role: Role::default(),
            catalog: PathBuf::from("config/catalog.yaml"),
            kafka: KafkaConfig::default(),
            mysql: MysqlConfig::default(),
            redis: RedisConfig::default(),
            http: HttpConfig::default(),
            log: LogConfig::default(),
            ingest: IngestConfig::default(),
            replay: crate::replay::Config::default(),
            lanes: crate::lanes::Config::default(),
        }
    }
}

/// What a worker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It reads live traffic.
    #[default]
    Ingest,
    /// It runs the tasks of jobs.
    Replay,
}

/// Where a topic that was never read before is read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// Its beginning.
    #[default]
    Earliest,
    /// Its end at that moment.
    Latest,
}

/// What an ingest worker does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct IngestConfig {
    /// The consumer group. All ingest workers of one fleet share it.
    pub group: String,
    /// Where a topic that was never read before is read from.
    pub start_at: StartAt,
    /// The broker takes partitions away from a worker that was silent for so long.
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    /// The client leaves the group when it was not polled for so long.
    #[serde(with = "humantime_serde")]
    pub max_poll_interval: Duration,
    /// Memory for records that the client fetched ahead.
    pub fetch_ahead: ByteSize,
    /// Threads that decode.
    pub decode_threads: usize,
    /// Chunks that wait for a decode thread.
    pub decode_queue: usize,
    /// Rows and letters between decode and the database.
    pub max_rows_in_flight: usize,
    /// Bytes of records between Kafka and the database.
    pub max_bytes_in_flight: ByteSize,
    /// A larger payload becomes a dead letter.
    pub max_record: ByteSize,
    /// Arrays and objects nested more deeply make a record a dead letter.
    pub max_depth: usize,
    /// A record with more rows becomes a dead letter.
    pub max_rows_per_record: usize,
    /// The time between two writes of ledger and commit.
    #[serde(with = "humantime_serde")]
    pub tick: Duration,
    /// One Kafka call may take this long.
    #[serde(with = "humantime_serde")]
    pub kafka_call: Duration,
    /// A ledger segment is sealed after this long.
    #[serde(with = "humantime_serde")]
    pub segment_time: Duration,
    /// A ledger segment is sealed after so many records.
    pub segment_records: u64,
    /// Processed records that ledger or commit lack; above it intake pauses.
    pub max_uncommitted_records: u64,
    /// How long ledger or commit may be behind; above it intake pauses.
    #[serde(with = "humantime_serde")]
    pub max_uncommitted_time: Duration,
    /// How long partitions that are taken away are drained.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// How long an orderly shutdown may take in all.
    #[serde(with = "humantime_serde")]
    pub shutdown: Duration,
    /// The pause between two looks at the whitelist's version. 4 s: a change is held within 5 s also when every notice is lost.
    #[serde(with = "humantime_serde")]
    pub whitelist_poll: Duration,
    /// The time between two looks at the recorded state of data types.
    #[serde(with = "humantime_serde")]
    pub type_states_poll: Duration,
    /// The time between heartbeats.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// A partition with lag that stood still for so long makes the worker unready.
    #[serde(with = "humantime_serde")]
    pub stall_after: Duration,
    /// The time between two rounds over lookup misses.
    #[serde(with = "humantime_serde")]
    pub resolve_misses: Duration,
    /// Lookup misses that are older are parked.
    #[serde(with = "humantime_serde")]
    pub park_misses_after: Duration,
    /// More open lookup misses than this stop their type.
    pub max_open_misses: u64,
}

impl Default for IngestConfig {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            group: "reprise-ingest".to_owned(),
            start_at: StartAt::default(),
            session_timeout: seconds(45),
            max_poll_interval: seconds(300),
            fetch_ahead: ByteSize::mib(32),
            decode_threads: 2,
            decode_queue: 16,
            max_rows_in_flight: 50_000,
            max_bytes_in_flight: ByteSize::mib(64),
            max_record: ByteSize::mib(1),
            max_depth: 64,
            max_rows_per_record: 50_000,
            tick: seconds(1),
            kafka_call: seconds(10),
            segment_time: seconds(60),
            segment_records: 100_000,
            max_uncommitted_records: 1_000_000,
            max_uncommitted_time: seconds(600),
            drain: seconds(20),
            shutdown: seconds(25),
            whitelist_poll: seconds(4),
            type_states_poll: seconds(5),
            heartbeat: seconds(2),
            stall_after: seconds(60),
            resolve_misses: seconds(15),
            park_misses_after: seconds(7 * 24 * 3600),
            max_open_misses: 100_000,
        }
    }
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        faults.section("kafka", &self.kafka);
        faults.section("mysql", &self.mysql);
        faults.section("redis", &self.redis);
        faults.section("http", &self.http);
        faults.section("log", &self.log);
        faults.section("ingest", &self.ingest);
        faults.section("replay", &self.replay);
        faults.section("lanes", &self.lanes);
    }
}

impl Validate for IngestConfig {
    fn validate(&self, faults: &mut Faults) {
        let name = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if self.group.is_empty() || self.group.len() > 249 || !self.group.chars().all(name) {
            faults.add(
                "group",
                "is not a usable name",
                "1 to 249 ASCII letters, digits, dots, hyphens or underscores",
            );
        }
        let milliseconds = Duration::from_millis;
        let seconds = Duration::from_secs;
        for (key, value, least, most) in [
            ("session_timeout", self.session_timeout, seconds(6), seconds(300)),
            ("max_poll_interval", self.max_poll_interval, seconds(10), seconds(3600)),
            ("tick", self.tick, milliseconds(50), seconds(60)),
            ("kafka_call", self.kafka_call, milliseconds(500), seconds(60)),
            ("segment_time", self.segment_time, seconds(1), seconds(3600)),
            (
                "max_uncommitted_time",
                self.max_uncommitted_time,
                seconds(10),
                seconds(86_400),
            ),
            ("whitelist_poll", self.whitelist_poll, milliseconds(100), seconds(60)),
            (
                "type_states_poll",
                self.type_states_poll,
                milliseconds(100),
                seconds(60),
            ),
            ("heartbeat", self.heartbeat, milliseconds(200), seconds(30)),
            ("stall_after", self.stall_after, seconds(5), seconds(3600)),
            ("resolve_misses", self.resolve_misses, milliseconds(200), seconds(3600)),
            (
                "park_misses_after",
                self.park_misses_after,
                seconds(60),
                seconds(90 * 86_400),
            ),
        ] {
            faults.check_range(key, value, least, most);
        }
        self.validate_numbers(faults);
        if self.drain >= self.session_timeout || self.drain >= self.max_poll_interval {
            let right =
                "less than ingest.session_timeout and ingest.max_poll_interval, or the drain outlives the membership";
            faults.add("drain", format!("{:?} is too long", self.drain), right);
        }
        if self.shutdown <= self.drain {
            faults.add(
                "shutdown",
                format!("{:?} is too short", self.shutdown),
                "more than ingest.drain",
            );
        }
        if self.session_timeout >= self.max_poll_interval {
            faults.add("session_timeout", "is too long", "less than ingest.max_poll_interval");
        }
    }
}

impl IngestConfig {
    fn validate_numbers(&self, faults: &mut Faults) {
        for (key, value, least, most) in [
            ("decode_threads", self.decode_threads as u64, 1, 64),
            ("decode_queue", self.decode_queue as u64, 1, 1_024),
            ("max_rows_in_flight", self.max_rows_in_flight as u64, 1_000, 10_000_000),
            (
                "max_bytes_in_flight",
                self.max_bytes_in_flight.as_u64(),
                4 << 20,
                16 << 30,
            ),
            ("fetch_ahead", self.fetch_ahead.as_u64(), 1 << 20, 1 << 30),
            ("max_record", self.max_record.as_u64(), 1 << 10, 64 << 20),
            ("max_depth", self.max_depth as u64, 2, 1_000),
            ("max_rows_per_record", self.max_rows_per_record as u64, 1, 1_000_000),
            ("segment_records", self.segment_records, 1_000, 10_000_000),
            (
                "max_uncommitted_records",
                self.max_uncommitted_records,
                10_000,
                1_000_000_000,
            ),
            ("max_open_misses", self.max_open_misses, 1, 100_000_000),
        ] {
            faults.check_range(key, value, least, most);
        }
    }
}

#[cfg(test)]
mod tests {
    use reprise_shared::config::{self, Sources};

    use super::*;

    fn shipped(settings: &[(&str, &str)]) -> Result<Config, Faults> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/worker.yaml");
        let settings = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        config::load(&Sources {
            file: Some(file.into()),
            settings: settings.collect(),
            ..Sources::default()
        })
    }

    #[test]
    fn the_shipped_file_is_valid_and_says_the_defaults() {
        let config = shipped(&[]).expect("config/worker.yaml is valid");
        let (shipped, default) = (config.ingest, IngestConfig::default());
        assert_eq!(
            (shipped.drain, shipped.tick, shipped.max_rows_in_flight),
            (default.drain, default.tick, default.max_rows_in_flight)
        );
        assert_eq!(config.lanes.per_table, crate::lanes::Config::default().per_table);
    }

    #[test]
    fn a_drain_that_outlives_the_membership_is_refused_with_all_other_faults() {
        let faults = shipped(&[("ingest.drain", "50s"), ("ingest.tick", "1ms"), ("ingest.group", "")])
            .expect_err("three faults")
            .to_string();
        for key in ["ingest.drain", "ingest.tick", "ingest.group"] {
            assert!(faults.contains(key), "{key} is not in: {faults}");
        }
    }

    #[test]
    fn bounds_of_lanes_and_replays_are_checked_like_the_others() {
        let wrong = [
            ("lanes.per_table", "0"),
            ("lanes.ping_interval", "15s"),
            ("lanes.max_letters", "0"),
            ("lanes.writer.backoff_cap", "1ms"),
            ("lanes.writer.breaker.window", "1h"),
            ("replay.live_first.share", "0"),
        ];
        let faults = shipped(&wrong).expect_err("each of them").to_string();
        for (key, _) in wrong {
            assert!(faults.contains(key), "{key} is not in: {faults}");
        }
    }
}
