//! Removes ranges by age, and coverage below the log's start, in bounded steps: the caller pauses between them until
//! one says that it is done.
//!
//! Before anything is removed, `indexed_from` of the type and partition is raised past it, so that planners never take
//! what is left for the whole.

use super::member::{Keys, Millis};
use super::read::Cursor;
use crate::position::{Offset, TopicPartition};
use crate::redis::{Error, Limit, Redis, Script};

const CALL: &str = "purge the offset ledger";
const TRIM: &str = "trim the coverage of the offset ledger";

/// The limits of one step. Redis serves nobody else meanwhile: with the defaults about 1 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeStep {
    /// At most this many members are read.
    pub max_scan: u32,
    /// At most this many are removed.
    pub max_deletes: u32,
}

impl Default for PurgeStep {
    fn default() -> Self {
        Self {
            max_scan: 150,
            max_deletes: 150,
        }
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Members read.
    pub scanned: u64,
    /// Members removed.
    pub removed: u64,
    /// Where to go on; `None` when everything was looked at.
    pub next: Option<Cursor>,
}

/// What one step on coverage did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// Members removed.
    pub removed: u64,
    /// How many members the next step passes over; `None` when everything was looked at.
    pub next: Option<u64>,
}

/// Removes old ranges, and coverage of what the log does not have any more.
#[derive(Debug)]
pub struct Purger {
    redis: Redis,
    keys: Keys,
    purge: Script,
    trim: Script,
}

impl Purger {
    /// Makes a purger.
    pub fn new(redis: Redis) -> Self {
        let keys = Keys::new(redis.prefix().clone());
        Self {
            redis,
            keys,
            purge: Script::new(include_str!("purge.lua")),
            trim: Script::new(include_str!("trim.lua")),
        }
    }

    /// Does one step on the ranges of one type in one partition: removes those last processed before `before`,
    /// sealed or not. Begin with no cursor and pass what the step before returned.
    pub async fn step(
        &self,
        data_type: &str,
        partition: &TopicPartition,
        before: Millis,
        cursor: Option<Cursor>,
        limits: PurgeStep,
    ) -> Result<Purged, Error> {
        let cursor = cursor.unwrap_or(Cursor {
            start: Offset(0),
            skip: 0,
        });
        let (ranges, indexed_from) = (
            self.keys.ranges(data_type, partition),
            self.keys.indexed_from(partition),
        );
        let mut command = self.purge.call([ranges.as_str(), &indexed_from]);
        command
            .arg(data_type)
            .arg(before.0)
            .arg(cursor.start.0)
            .arg(cursor.skip);
        command.arg(limits.max_scan.max(1)).arg(limits.max_deletes.max(1));
        let (scanned, removed, done, start, skip): (u64, u64, u8, u64, u32) =
            self.redis.invoke(CALL, Limit::Ordinary, &self.purge, &command).await?;
        let next = (done == 0).then_some(Cursor {
            start: Offset(start),
            skip,
        });
        Ok(Purged { scanned, removed, next })
    }

    /// Does one step on a partition's coverage: removes the intervals of all kinds that lie wholly below the log's
    /// start, where there is nothing left to ask about. Begin with 0 and pass what the step before returned.
    pub async fn trim(
        &self,
        partition: &TopicPartition,
        log_start: Offset,
        passed: u64,
        limits: PurgeStep,
    ) -> Result<Trimmed, Error> {
        let most = u64::from(limits.max_scan.min(limits.max_deletes).max(1));
        let coverage = self.keys.coverage(partition);
        let mut command = self.trim.call([coverage.as_str()]);
        command.arg(log_start.0).arg(passed).arg(most);
        let (read, removed): (u64, u64) = self.redis.invoke(TRIM, Limit::Ordinary, &self.trim, &command).await?;
        let next = (read == most).then(|| passed + (read - removed));
        Ok(Trimmed { removed, next })
    }

    /// Returns the data types that ever had ranges in a partition, whether a catalog still has them or not. There are
    /// as many as catalogs ever named.
    pub async fn data_types(&self, partition: &TopicPartition) -> Result<Vec<String>, Error> {
        let mut command = redis::cmd("HKEYS");
        command.arg(self.keys.indexed_from(partition));
        self.redis.query(CALL, Limit::Ordinary, &command).await
    }

    /// Returns the position from which on the ranges of a type are whole; 0 before the first purge.
    pub async fn indexed_from(&self, data_type: &str, partition: &TopicPartition) -> Result<Offset, Error> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.indexed_from(partition)).arg(data_type);
        let found: Option<u64> = self.redis.query(CALL, Limit::Ordinary, &command).await?;
        Ok(Offset(found.unwrap_or(0)))
    }
}
