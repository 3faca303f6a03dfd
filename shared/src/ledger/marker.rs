//! Notes intervals that are known but not covered by live traffic: `deferred`, `lost` and `attested`.

use super::member::{Coverage, CoverageKind, Keys, coverage_head};
use crate::position::TopicPartition;
use crate::redis::{Error, Limit, Redis, Script};

const CALL: &str = "mark an interval in the offset ledger";

/// Writes coverage members of their own kind, which are never merged with live ones.
#[derive(Debug)]
pub struct Marker {
    redis: Redis,
    keys: Keys,
    put: Script,
}

impl Marker {
    /// Makes a marker.
    pub fn new(redis: Redis) -> Self {
        let keys = Keys::new(redis.prefix().clone());
        Self {
            redis,
            keys,
            put: Script::new(include_str!("put.lua")),
        }
    }

    /// Puts a member, in place of the former one of the same kind, topic id, type and start: a deferred interval
    /// grows this way. Repeating it changes nothing. Live coverage is refused; it is the [`super::Writer`]'s.
    pub async fn mark(&self, partition: &TopicPartition, coverage: &Coverage) -> Result<(), Error> {
        if coverage.kind == CoverageKind::Live || coverage.interval().is_empty() {
            let message = format!(
                "{:?} [{}, {}) cannot be marked",
                coverage.kind, coverage.start, coverage.end
            );
            return Err(Error::Answer { call: CALL, message });
        }
        let head = coverage_head(coverage.kind, &coverage.topic_id, coverage.data_type.as_deref());
        let member = serde_json::to_string(coverage).map_err(|error| Error::Answer {
            call: CALL,
            message: error.to_string(),
        })?;
        let key = self.keys.coverage(partition);
        let mut command = self.put.call([key.as_str()]);
        command
            .arg(coverage.start.0)
            .arg(format!("{head}\"start\":{},", coverage.start))
            .arg(member);
        self.redis
            .invoke::<i64>(CALL, Limit::Ordinary, &self.put, &command)
            .await
            .map(drop)
    }
}
