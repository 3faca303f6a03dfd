//! Removes old ranges from the ledger.
//!
//! A purge runs under a lease, because two at a time would each count a part. It is put on record as begun before
//! anything is removed, and as done with its counts. Coverage is left alone: it is a few united intervals, and all that tells a hole from what was processed.

mod record;

use std::sync::Arc;
use std::time::Duration;

use reprise_shared::ingest_state::topics;
use reprise_shared::leases;
use reprise_shared::ledger::Millis;
use reprise_shared::position::TopicPartition;
use reprise_shared::telemetry::chain;

use super::scan::ALL;
use super::{Error, Offsets, chosen, place};
use crate::audit::Outcome;
use crate::metrics;

/// Who purges holds this lease.
const LEASE: &str = "purge_offset_ranges";
/// For so long after it was last heard of.
const LEASE_TIME: Duration = Duration::from_secs(30);
/// It is renewed this often.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// What is to be removed, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Only this data type; `None`: all of the catalog.
    pub data_type: Option<String>,
    /// Ranges that were last processed longer ago.
    pub older_than: Duration,
    /// Who asks.
    pub principal: Arc<str>,
    /// The id of the request.
    pub request_id: Option<String>,
}

/// What a purge came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Ranges that were removed, or would be.
    pub removed: u64,
    /// Ranges that were looked at.
    pub scanned: u64,
}

impl Offsets {
    /// Counts what a purge would remove now, and changes nothing.
    ///
    /// # Errors
    /// When Redis or MySQL does not answer.
    pub async fn count_old(&self, purge: &Purge) -> Result<Purged, Error> {
        let before = self.before(purge);
        let mut counted = Purged::default();
        for (data_type, partition) in self.lines(purge).await? {
            let mut cursor = None;
            loop {
                let limit = self.config().max_scan as usize;
                let page = self.0.reader.spans(&data_type, &partition, ALL, cursor, limit).await?;
                let old = page.members.iter().filter(|range| range.last_processed < before);
                counted.removed += old.count() as u64;
                counted.scanned += (page.members.len() + page.unreadable) as u64;
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
                tokio::time::sleep(self.config().pause).await;
            }
        }
        Ok(counted)
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
            principal = &*purge.principal,
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
        let parts = self.parts();
        let before = self.before(purge);
        let mut renewed = parts.clock.monotonic();
        for (data_type, partition) in self.lines(purge).await? {
            let mut cursor = None;
            loop {
                let limits = self.config().step();
                let step = self
                    .0
                    .purger
                    .step(&data_type, &partition, before, cursor, limits)
                    .await?;
                purged.removed += step.removed;
                purged.scanned += step.scanned;
                cursor = step.next;
                if cursor.is_none() {
                    break;
                }
                let unfinished = |reason| Error::Unfinished {
                    removed: purged.removed,
                    reason,
                };
                if parts.clock.monotonic().saturating_sub(renewed) >= RENEW_EVERY {
                    let held = leases::hold(parts.database.pool(), LEASE, holder, LEASE_TIME).await;
                    // While MySQL is away nobody else gets the lease either.
                    if matches!(held, Ok(None)) {
                        return Err(unfinished("another purge began"));
                    }
                    renewed = parts.clock.monotonic();
                }
                let pause = tokio::time::sleep(self.config().pause);
                if parts.shutdown.run_until_cancelled(pause).await.is_none() {
                    return Err(unfinished("the server is shutting down"));
                }
            }
        }
        Ok(())
    }

    /// Returns the lines of the ledger that a purge goes over: types with the partitions that ingest knows.
    async fn lines(&self, purge: &Purge) -> Result<Vec<(String, TopicPartition)>, Error> {
        let types = self.catalog().data_types.iter();
        let types = types.filter(|known| purge.data_type.as_ref().is_none_or(|asked| *asked == known.name));
        let mut lines = Vec::new();
        for data_type in types {
            let accepted = topics::accepted(self.parts().database.pool(), &data_type.topic).await?;
            for partition in chosen(&[], accepted.map_or(0, |accepted| accepted.partitions)) {
                lines.push((data_type.name.clone(), place(&data_type.topic, partition)));
            }
        }
        Ok(lines)
    }

    fn before(&self, purge: &Purge) -> Millis {
        let age = i64::try_from(purge.older_than.as_millis()).unwrap_or(i64::MAX);
        Millis(Millis::from(self.parts().clock.now()).0.saturating_sub(age))
    }
}
