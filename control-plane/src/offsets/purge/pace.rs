//! What happens between two steps of a purge: a pause, so that Redis serves others, and the lease is kept.

use std::time::Duration;

use reprise_shared::leases;

use super::{LEASE, LEASE_TIME};
use crate::offsets::{Offsets, Parts};

/// The lease is renewed this often.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// The pace of one purge.
pub(super) struct Pace<'a> {
    parts: &'a Parts,
    holder: &'a str,
    renewed: Duration,
}

impl<'a> Pace<'a> {
    pub(super) fn new(offsets: &'a Offsets, holder: &'a str) -> Self {
        let parts = offsets.parts();
        Self {
            parts,
            holder,
            renewed: parts.clock.monotonic(),
        }
    }

    /// Waits until the next step may be made, or says why there is none.
    pub(super) async fn wait(&mut self) -> Result<(), &'static str> {
        let Parts {
            clock,
            database,
            config,
            shutdown,
            ..
        } = self.parts;
        if clock.monotonic().saturating_sub(self.renewed) >= RENEW_EVERY {
            let held = leases::hold(database.pool(), LEASE, self.holder, LEASE_TIME).await;
            // While MySQL is away nobody else gets the lease either.
            if matches!(held, Ok(None)) {
                return Err("another purge began");
            }
            self.renewed = clock.monotonic();
        }
        let pause = tokio::time::sleep(config.pause);
        let waited = shutdown.run_until_cancelled(pause).await;
        waited.ok_or("the server is shutting down")
    }
}
