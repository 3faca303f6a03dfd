//! A worker's heartbeat.

use std::sync::Arc;
use std::time::Duration;

use reprise_shared::catalog::Catalog;
use reprise_shared::clock::Clock;
use reprise_shared::heartbeat::{self, Heartbeat, Role, Store};
use reprise_shared::redis::Redis;
use reprise_shared::telemetry::chain;
use reprise_shared::whitelist::{self, Status, Version};

/// A burst of whitelist changes sends heartbeats no closer than this.
pub(crate) const LEAST_BETWEEN_BEATS: Duration = Duration::from_millis(10);

/// Makes and sends this worker's heartbeat. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Beat {
    store: Store,
    template: Arc<Heartbeat>,
    whitelist: whitelist::Handle,
    clock: Clock,
}

impl Beat {
    /// Makes it; nothing is sent yet.
    pub(crate) fn new(
        redis: Redis,
        interval: Duration,
        (worker, role): (String, Role),
        catalog: &Catalog,
        whitelist: whitelist::Handle,
        clock: Clock,
    ) -> Self {
        let now = clock.now();
        let host = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_default();
        let template = Arc::new(Heartbeat {
            worker,
            role,
            host,
            pid: std::process::id(),
            started: now,
            sent_at: now,
            catalog_hash: catalog.hash.clone(),
            whitelist: heartbeat::Whitelist {
                status: Status::Unknown,
                applied: None,
                oldest_in_flight: None,
                age_ms: None,
            },
            partitions: Vec::new(),
            partitions_left_out: 0,
        });
        Self {
            store: Store::new(redis, interval),
            template,
            whitelist,
            clock,
        }
    }

    /// Sends a heartbeat. `oldest_in_flight` is the oldest version that something in flight was judged by.
    pub(crate) async fn send(&self, partitions: Vec<heartbeat::Partition>, oldest_in_flight: Option<Version>) {
        let state = self.whitelist.state();
        let whitelist = heartbeat::Whitelist {
            status: state.status,
            applied: state.applied,
            oldest_in_flight,
            age_ms: self
                .whitelist
                .age()
                .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        };
        let beat = Heartbeat {
            sent_at: self.clock.now(),
            whitelist,
            partitions,
            ..Heartbeat::clone(&self.template)
        };
        if let Err(error) = self.store.send(beat).await {
            tracing::debug!(error = %chain(&error), "send heartbeat");
        }
    }

    /// Returns the whitelist that it tells of.
    pub(crate) fn whitelist(&self) -> &whitelist::Handle {
        &self.whitelist
    }

    /// Takes this worker off the list.
    pub(crate) async fn leave(&self) {
        if let Err(error) = self.store.leave(&self.template.worker).await {
            tracing::debug!(error = %chain(&error), "remove heartbeat");
        }
    }
}
