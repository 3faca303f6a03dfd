//! What each worker says of itself, in Redis.
//!
//! `<prefix>:worker:<worker id>` holds one [`Heartbeat`] as JSON and expires after three intervals; the ZSET
//! `<prefix>:workers` indexes the ids by when their heartbeat expires, so that listing never scans keys. A worker that
//! is not listed is unknown, which is not the same as stopped.

use std::time::Duration;

use redis::Pipeline;
use serde::{Deserialize, Serialize};

use crate::redis::{Error, Limit, Redis};
use crate::whitelist;

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads live traffic.
    Ingest,
    /// Runs tasks of jobs.
    Replay,
}

/// One worker at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Unique among all workers, and another after each start.
    pub worker: String,
    /// Its role.
    pub role: Role,
    /// The machine or pod.
    pub host: String,
    /// The process id there.
    pub pid: u32,
    /// When it started.
    pub started: jiff::Timestamp,
    /// When this was sent, by the worker's clock.
    pub sent_at: jiff::Timestamp,
    /// Which catalog it runs; a fleet with two is shown as such.
    pub catalog_hash: String,
    /// Its whitelist.
    pub whitelist: Whitelist,
    /// Its partitions, at most [`Heartbeat::MAX_PARTITIONS`].
    pub partitions: Vec<Partition>,
    /// How many partitions were left out of the list.
    #[serde(default)]
    pub partitions_left_out: usize,
}

/// Which whitelist a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whitelist {
    /// How it relates to the one in Redis.
    pub status: whitelist::Status,
    /// The version that new chunks are judged by.
    pub applied: Option<whitelist::Version>,
    /// The oldest version that a chunk in flight was judged by.
    pub oldest_in_flight: Option<whitelist::Version>,
    /// Milliseconds since Redis last confirmed it.
    pub age_ms: Option<u64>,
}

/// How a partition is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u16,
    /// One word: `running`, `paused`, `stopped`, …
    pub status: String,
    /// Why, for a person, where it is not running; at most 200 characters are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The committed position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<u64>,
    /// The next position to be processed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The position that the broker last showed as the partition's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
}

impl Heartbeat {
    /// A heartbeat lists at most this many partitions.
    pub const MAX_PARTITIONS: usize = 256;

    /// Cuts what is longer than a heartbeat may be.
    fn bounded(mut self) -> Self {
        self.partitions_left_out += self.partitions.len().saturating_sub(Self::MAX_PARTITIONS);
        self.partitions.truncate(Self::MAX_PARTITIONS);
        for partition in &mut self.partitions {
            if let Some(reason) = &mut partition.reason {
                *reason = reason.chars().take(200).collect();
            }
        }
        self
    }
}

/// Every worker that was heard of lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Their last heartbeats, by worker id.
    pub workers: Vec<Heartbeat>,
    /// Heartbeats that could not be read: another version of the program wrote them.
    pub unreadable: Vec<String>,
    /// Workers whose heartbeat expired at most a minute ago and that did not leave in an orderly way: they died, hang
    /// or cannot reach Redis.
    pub silent: Vec<String>,
}

/// Sends and lists heartbeats.
#[derive(Clone, Debug)]
pub struct Store {
    redis: Redis,
    time_to_live: Duration,
}

impl Store {
    /// How often a worker sends its heartbeat by default.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
    /// At most this many workers are listed.
    pub const MAX_WORKERS: usize = 1_000;

    /// Makes a store for heartbeats that are sent every `interval`; they expire after three.
    pub fn new(redis: Redis, interval: Duration) -> Self {
        Self {
            redis,
            time_to_live: interval.max(Duration::from_millis(1)) * 3,
        }
    }

    /// Sends a heartbeat, in one round trip.
    pub async fn send(&self, heartbeat: Heartbeat) -> Result<(), Error> {
        let call = "send a heartbeat";
        let heartbeat = heartbeat.bounded();
        let text = serde_json::to_string(&heartbeat).map_err(|error| Error::Answer {
            call,
            message: error.to_string(),
        })?;
        let time_to_live = u64::try_from(self.time_to_live.as_millis()).unwrap_or(u64::MAX);
        let expires = heartbeat.sent_at.as_millisecond().saturating_add_unsigned(time_to_live);
        let mut pipeline = Pipeline::new();
        pipeline
            .cmd("SET")
            .arg(self.key(&heartbeat.worker))
            .arg(text)
            .arg("PX")
            .arg(time_to_live);
        pipeline
            .cmd("ZADD")
            .arg(self.index())
            .arg(expires)
            .arg(&heartbeat.worker);
        self.all(call, &mut pipeline).await
    }

    /// Takes a worker off the list, when it leaves in an orderly way.
    pub async fn leave(&self, worker: &str) -> Result<(), Error> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("DEL").arg(self.key(worker));
        pipeline.cmd("ZREM").arg(self.index()).arg(worker);
        self.all("remove a heartbeat", &mut pipeline).await
    }

    /// Lists the workers whose heartbeat has not expired, and forgets those that expired more than a minute before
    /// `now`.
    pub async fn list(&self, now: jiff::Timestamp) -> Result<Fleet, Error> {
        const FORGOTTEN_AFTER_MS: i64 = 60_000;
        let call = "list heartbeats";
        let mut fleet = Fleet {
            workers: Vec::new(),
            unreadable: Vec::new(),
            silent: Vec::new(),
        };
        let mut latest = redis::cmd("ZREVRANGE");
        latest.arg(self.index()).arg(0).arg(Self::MAX_WORKERS - 1);
        let mut ids: Vec<String> = self.redis.query(call, Limit::Ordinary, &latest).await?;
        ids.sort_unstable();
        let mut pipeline = Pipeline::new();
        let forget = now.as_millisecond().saturating_sub(FORGOTTEN_AFTER_MS);
        pipeline
            .cmd("ZREMRANGEBYSCORE")
            .arg(self.index())
            .arg("-inf")
            .arg(format!("({forget}"));
        for id in &ids {
            pipeline.cmd("GET").arg(self.key(id));
        }
        let answers = self
            .redis
            .pipeline::<Option<String>>(call, Limit::Ordinary, &mut pipeline)
            .await?;
        for (id, answer) in ids.into_iter().zip(answers.into_iter().skip(1)) {
            match answer?.map(|text| serde_json::from_str(&text)) {
                Some(Ok(heartbeat)) => fleet.workers.push(heartbeat),
                Some(Err(_)) => fleet.unreadable.push(id),
                None => fleet.silent.push(id),
            }
        }
        Ok(fleet)
    }

    fn key(&self, worker: &str) -> String {
        format!("{}:worker:{worker}", self.redis.prefix())
    }

    fn index(&self) -> String {
        format!("{}:workers", self.redis.prefix())
    }

    async fn all(&self, call: &'static str, pipeline: &mut Pipeline) -> Result<(), Error> {
        let answers = self
            .redis
            .pipeline::<redis::Value>(call, Limit::Ordinary, pipeline)
            .await?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_of_too_many_partitions_says_how_many_it_left_out() {
        let partition = |number| Partition {
            topic: "t".to_owned(),
            partition: number,
            status: "stopped".to_owned(),
            reason: Some("x".repeat(1_000)),
            committed: Some(1),
            position: None,
            end: None,
        };
        let heartbeat = Heartbeat {
            worker: "w".to_owned(),
            role: Role::Ingest,
            host: "h".to_owned(),
            pid: 1,
            started: jiff::Timestamp::UNIX_EPOCH,
            sent_at: jiff::Timestamp::UNIX_EPOCH,
            catalog_hash: "c".to_owned(),
            whitelist: Whitelist {
                status: whitelist::Status::Ok,
                applied: Some(whitelist::Version(3)),
                oldest_in_flight: None,
                age_ms: Some(12),
            },
            partitions: (0..300).map(partition).collect(),
            partitions_left_out: 0,
        };
        let bounded = heartbeat.bounded();
        assert_eq!((bounded.partitions.len(), bounded.partitions_left_out), (256, 44));
        assert_eq!(bounded.partitions[0].reason.as_ref().map(String::len), Some(200));
        let text = serde_json::to_string(&bounded).expect("plain data");
        assert_eq!(serde_json::from_str::<Heartbeat>(&text).expect("own form"), bounded);
    }
}
