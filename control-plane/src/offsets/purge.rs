//! Removes old ranges from the ledger, and coverage of what Kafka does not have any more.
//!
//! A purge runs under a lease, because two at a time would each count a part. It is put on record as begun before
//! anything is removed, and as done with its counts. Coverage goes only where it lies wholly below the log's start: it
//! is a few united intervals, and all that tells a hole from what was processed.

mod lines;
mod pace;
mod record;

use std::time::Duration;

use reprise_shared::leases;
use reprise_shared::ledger::{Interval, Millis};
use reprise_shared::position::{Offset, TopicPartition};
use reprise_shared::telemetry::chain;

use self::pace::Pace;
use super::scan::ALL;
use super::{Error, Offsets};
use crate::audit::Outcome;
use crate::metrics;
use crate::requests::RequestKey;

pub(crate) use self::record::answer;

/// Who purges holds this lease.
const LEASE: &str = "purge_offset_ranges";
/// For so long after it was last heard of.
const LEASE_TIME: Duration = Duration::from_secs(30);

/// What is to be removed, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Only this data type; `None`: all that ever had ranges, and coverage.
    pub data_type: Option<String>,
    /// Ranges that were last processed longer ago.
    pub older_than: Duration,
    /// Who asks, and which request it is.
    pub request: RequestKey,
}

/// What a purge came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Ranges that were removed, or would be.
    pub removed: u64,
    /// Ranges that were looked at.
    pub scanned: u64,
    /// Intervals of coverage that were removed, or would be.
    pub coverage_removed: u64,
}

impl Offsets {
    /// Counts what a purge would remove now, and changes nothing.
    ///
    /// # Errors
    /// When Redis or MySQL does not answer.
    pub async fn count_old(&self, purge: &Purge) -> Result<Purged, Error> {
        let before = self.before(purge);
        let mut counted = Purged::default();
        for (topic, partitions) in self.partitions_on_record().await? {
            for partition in &partitions {
                for data_type in self.purged_types(purge, partition).await? {
                    self.count_ranges(&data_type, partition, before, &mut counted).await?;
                }
            }
            if purge.data_type.is_none() {
                for (partition, start) in self.log_starts(&topic, &partitions).await {
                    self.count_coverage(&partition, start, &mut counted).await?;
                }
            }
        }
        Ok(counted)
    }

    async fn count_ranges(
        &self,
        data_type: &str,
        partition: &TopicPartition,
        before: Millis,
        counted: &mut Purged,
    ) -> Result<(), Error> {
        let mut cursor = None;
        loop {
            let limit = self.config().max_scan as usize;
            let page = self.0.reader.spans(data_type, partition, ALL, cursor, limit).await?;
            let old = page.members.iter().filter(|range| range.last_processed < before);
            counted.removed += old.count() as u64;
            counted.scanned += (page.members.len() + page.unreadable) as u64;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
            tokio::time::sleep(self.config().pause).await;
        }
    }

    async fn count_coverage(
        &self,
        partition: &TopicPartition,
        log_start: Offset,
        counted: &mut Purged,
    ) -> Result<(), Error> {
        let below = Interval::new(Offset(0), log_start);
        let mut cursor = None;
        loop {
            let limit = self.config().max_scan as usize;
            let page = self.0.reader.coverage(partition, below, cursor, limit).await?;
            let gone = page.members.iter().filter(|member| member.end <= log_start);
            counted.coverage_removed += gone.count() as u64;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
            tokio::time::sleep(self.config().pause).await;
        }
    }

    /// Removes old ranges. With the id of a request that was done, returns what that came to. Ends early when the
    /// process is told to stop.
    ///
    /// Not cancel-safe: dropped, the lease is held until its time is up and the end is not on record.
    ///
    /// # Errors
    /// When another purge runs, the id belongs to another request, or Redis or MySQL does not answer; in that last case
    /// some ranges may be removed, which is on record.
    pub async fn purge(&self, purge: &Purge) -> Result<Purged, Error> {
        let database = &self.parts().database;
        let holder = uuid::Uuid::now_v7().to_string();
        if let Some(purged) = record::find(database.pool(), purge).await? {
            return Ok(purged);
        }
        if leases::hold(database.pool(), LEASE, &holder, LEASE_TIME)
            .await?
            .is_none()
        {
            return Err(Error::PurgeRuns);
        }
        let worked = self.purge_under_lease(purge, &holder).await;
        if let Err(error) = leases::release(database.pool(), LEASE, &holder).await {
            tracing::warn!(error = %chain(&error), "the lease of purges was not given back; it ends by itself");
        }
        worked
    }

    async fn purge_under_lease(&self, purge: &Purge, holder: &str) -> Result<Purged, Error> {
        let database = &self.parts().database;
        // The one that held the lease until now may have been this very request.
        if let Some(purged) = record::find(database.pool(), purge).await? {
            return Ok(purged);
        }
        record::write(database, purge, None, Outcome::Unknown, "begun").await?;
        let mut purged = Purged::default();
        let ended = self.remove(purge, holder, &mut purged).await;
        metrics::offset_ranges_purged(purged.removed);
        let (outcome, reason) = match &ended {
            Ok(()) => (Outcome::Done, String::new()),
            Err(error) => (Outcome::Failed, chain(error).to_string()),
        };
        let written = record::write(database, purge, Some(purged), outcome, &reason).await;
        tracing::info!(
            purged.removed,
            purged.scanned,
            purged.coverage_removed,
            principal = purge.request.principal,
            outcome = outcome.as_str(),
            reason,
            "offset ranges purged"
        );
        match ended {
            Err(error @ (Error::Unfinished { .. } | Error::Mysql(_))) => Err(error),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a purge ended early");
                Err(Error::Unfinished {
                    removed: purged.removed,
                    reason: "redis does not answer as it should",
                })
            }
            Ok(()) if written.is_err() => Err(Error::Unfinished {
                removed: purged.removed,
                reason: "all was removed, and mysql did not take the record of it",
            }),
            Ok(()) => Ok(purged),
        }
    }

    async fn remove(&self, purge: &Purge, holder: &str, purged: &mut Purged) -> Result<(), Error> {
        let before = self.before(purge);
        let mut pace = Pace::new(self, holder);
        for (topic, partitions) in self.partitions_on_record().await? {
            for partition in &partitions {
                for data_type in self.purged_types(purge, partition).await? {
                    self.remove_ranges(&data_type, partition, before, &mut pace, purged)
                        .await?;
                }
            }
            if purge.data_type.is_none() {
                for (partition, start) in self.log_starts(&topic, &partitions).await {
                    self.remove_coverage(&partition, start, &mut pace, purged).await?;
                }
            }
        }
        Ok(())
    }

    async fn remove_ranges(
        &self,
        data_type: &str,
        partition: &TopicPartition,
        before: Millis,
        pace: &mut Pace<'_>,
        purged: &mut Purged,
    ) -> Result<(), Error> {
        let mut cursor = None;
        loop {
            let limits = self.config().step();
            let step = self.0.purger.step(data_type, partition, before, cursor, limits).await?;
            purged.removed += step.removed;
            purged.scanned += step.scanned;
            cursor = step.next;
            if cursor.is_none() {
                return Ok(());
            }
            pace.wait().await.map_err(|reason| unfinished(purged, reason))?;
        }
    }

    async fn remove_coverage(
        &self,
        partition: &TopicPartition,
        log_start: Offset,
        pace: &mut Pace<'_>,
        purged: &mut Purged,
    ) -> Result<(), Error> {
        let mut passed = 0;
        loop {
            let limits = self.config().step();
            let step = self.0.purger.trim(partition, log_start, passed, limits).await?;
            purged.coverage_removed += step.removed;
            let Some(next) = step.next else { return Ok(()) };
            passed = next;
            pace.wait().await.map_err(|reason| unfinished(purged, reason))?;
        }
    }

    fn before(&self, purge: &Purge) -> Millis {
        let age = i64::try_from(purge.older_than.as_millis()).unwrap_or(i64::MAX);
        Millis(Millis::from(self.parts().clock.now()).0.saturating_sub(age))
    }
}

fn unfinished(purged: &Purged, reason: &'static str) -> Error {
    Error::Unfinished {
        removed: purged.removed,
        reason,
    }
}
