//! Keeps Redis at what MySQL holds, settles what crashes left, and removes due entries.
//!
//! Every replica of the control plane runs one; whatever one of them does is done under the lock, so several do no
//! harm, and none is the leader.

use std::time::Duration;

use reprise_shared::telemetry::chain;
use reprise_shared::whitelist::Version;
use tokio_util::sync::CancellationToken;

use super::change::Work;
use super::error::Error;
use super::read::{Copy, Status};
use super::store::Store;
use super::{Repair, entries};

/// What one run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// What was put right.
    pub repairs: Vec<Repair>,
    /// How many due entries were removed.
    pub expired: u64,
}

impl Store {
    /// Compares MySQL, Redis and the workers, and puts right what differs; removes due entries. Takes the lock only
    /// when there is something to do. Safe to drop and to run anywhere, at any time.
    ///
    /// # Errors
    /// Something could not be put right now; the next run tries again.
    pub async fn reconcile(&self) -> Result<Reconciled, Error> {
        let status = self.status().await?;
        let floor = self.highest_held().await;
        let mut done = Reconciled::default();
        if needs_lock(&status, floor) {
            done.repairs = self.shared.settle(floor).await?;
        }
        for scope in entries::due_scopes(self.shared.database.pool()).await? {
            done.expired += self.shared.run(Work::expiry(scope)).await?.removed;
        }
        show(&self.status().await?);
        Ok(done)
    }

    /// The highest version that a worker says it holds: when MySQL and Redis were both restored, workers would ignore
    /// everything up to it.
    async fn highest_held(&self) -> Version {
        /// A version beyond this was never counted up to.
        const ABSURD: u64 = 1 << 62;
        let fleet = self.shared.heartbeats.list(self.shared.clock.now()).await;
        let workers = fleet.map(|fleet| fleet.workers).unwrap_or_default();
        let held = workers.iter().filter_map(|worker| worker.whitelist.applied);
        held.filter(|version| version.0 < ABSURD).max().unwrap_or(Version(0))
    }
}

fn needs_lock(status: &Status, floor: Version) -> bool {
    let is_empty = status.head.version == Version(0) && status.copy == Copy::Missing && status.unfinished.is_empty();
    !is_empty && (!status.is_in_sync() || floor > status.head.version)
}

fn show(status: &Status) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    let gauge = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
    gauge("reprise_whitelist_version", status.head.version.0);
    gauge("reprise_whitelist_entries", status.entries);
    gauge("reprise_whitelist_overdue_entries", status.overdue);
    gauge("reprise_whitelist_in_sync", u64::from(status.is_in_sync()));
}

/// Runs [`Store::reconcile`] again and again.
#[derive(Debug)]
pub struct Reconciler {
    store: Store,
    pause: Duration,
}

impl Reconciler {
    /// Makes a reconciler that runs as often as the store's configuration says.
    pub fn new(store: Store) -> Self {
        let pause = store.shared.config.reconcile_every;
        Self { store, pause }
    }

    /// Runs until `shutdown`. No fault ends it. Cancel-safe: what is dropped half-way is settled by the next run.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.once() => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.pause) => {}
            }
        }
    }

    async fn once(&self) {
        let outcome = self.store.reconcile().await;
        let result = match &outcome {
            Ok(_) => "done",
            Err(Error::Busy) => "busy",
            Err(_) => "failed",
        };
        metrics::counter!("reprise_whitelist_reconciliations_total", "result" => result).increment(1);
        match outcome {
            Ok(done) => {
                for repair in &done.repairs {
                    tracing::warn!(whitelist.repair = ?repair, "put the whitelist right");
                }
                if done.expired > 0 {
                    tracing::info!(whitelist.expired = done.expired, "removed due entries of the whitelist");
                }
            }
            Err(Error::Busy) => tracing::debug!("the whitelist is being changed; it is compared later"),
            Err(error) => tracing::warn!(error = %chain(&error), "could not reconcile the whitelist"),
        }
    }
}
