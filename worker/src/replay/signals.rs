//! Looks at live traffic and the database for all tasks of this worker, and keeps the decision.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reprise_shared::clock::Clock;
use reprise_shared::mysql::Database;
use reprise_shared::position::TopicName;
use reprise_shared::telemetry::chain;
use sqlx::mysql::MySqlPool;
use tokio_util::sync::CancellationToken;

use super::live_first::{self, Decision, Signals, Speed, decide};
use super::probe::Probe;
use super::running::Running;
use crate::metrics;

/// What was decided last, and where small writes are timed. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LiveFirst(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// `None` before the first look since a task began.
    decision: Option<Decision>,
    slowest: Duration,
}

impl LiveFirst {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            decision: None,
            slowest: Duration::ZERO,
        })))
    }

    /// Returns what was decided last. Nothing is read before live traffic was looked at.
    pub(super) fn decision(&self) -> Decision {
        let decision = self.0.lock().decision.clone();
        decision.unwrap_or_else(|| Decision {
            speed: Speed::Hold,
            reason: "live traffic is looked at first".to_owned(),
        })
    }

    /// Notes how long a small write took.
    pub(super) fn wrote_in(&self, took: Duration) {
        let mut state = self.0.lock();
        state.slowest = state.slowest.max(took);
    }

    fn speed(&self) -> Option<Speed> {
        self.0.lock().decision.as_ref().map(|decision| decision.speed)
    }

    fn forget(&self) {
        *self.0.lock() = State {
            decision: None,
            slowest: Duration::ZERO,
        };
    }

    fn take_slowest(&self) -> Duration {
        std::mem::take(&mut self.0.lock().slowest)
    }
}

/// Looks, again and again.
pub(super) struct Watch {
    pub(super) config: live_first::Config,
    pub(super) state: LiveFirst,
    pub(super) probe: Probe,
    pub(super) database: Database,
    pub(super) replica: Option<MySqlPool>,
    pub(super) running: Running,
    pub(super) clock: Clock,
}

impl Watch {
    /// Works until shutdown. Cancel-safe.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(self.config.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // A task that begins does not wait for the next tick.
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.running.entered() => {}
            }
            if shutdown.run_until_cancelled(self.look()).await.is_none() {
                return;
            }
        }
    }

    async fn look(&self) {
        let topics: BTreeSet<TopicName> = self.running.topics();
        if topics.is_empty() {
            self.state.forget();
            return;
        }
        let (live_lag, answered_in, replica_lag) = tokio::join!(
            self.live_lag(topics.into_iter().collect()),
            self.ping(),
            self.replica_lag()
        );
        let signals = Signals {
            live_lag,
            latency: answered_in.max(self.state.take_slowest()),
            replica_lag,
        };
        let before = self.state.speed();
        let held = before == Some(Speed::Hold);
        let decision = decide(held, &signals, &self.config);
        metrics::live_first(signals.live_lag, signals.latency, decision.speed == Speed::Hold);
        if before != Some(decision.speed) {
            tracing::info!(reason = decision.reason, speed = ?decision.speed, "the speed of replays");
        }
        self.state.0.lock().decision = Some(decision);
    }

    async fn live_lag(&self, topics: Vec<TopicName>) -> Option<u64> {
        match self.probe.live_lag(topics).await {
            Ok(lag) => lag,
            Err(error) => {
                tracing::debug!(error = %chain(&error), "ask how far live traffic is");
                None
            }
        }
    }

    /// Returns how long the database takes to answer; when it does not, the time that was waited.
    async fn ping(&self) -> Duration {
        let started = self.clock.monotonic();
        let ping = sqlx::query("/* replay_ping */ SELECT 1").execute(self.database.pool());
        // Whether it failed or not: what counts is the time.
        let _ = tokio::time::timeout(self.config.latency_hold, ping).await;
        self.clock.monotonic().saturating_sub(started)
    }

    async fn replica_lag(&self) -> Option<Duration> {
        let replica = self.replica.as_ref()?;
        let limit = self.config.latency_hold;
        match tokio::time::timeout(limit, super::replica::lag(replica)).await {
            Ok(Ok(lag)) => Some(lag),
            Ok(Err(error)) => {
                tracing::warn!(%error, "ask the replica how far it is behind");
                None
            }
            Err(_) => {
                tracing::warn!("the replica does not say how far it is behind");
                None
            }
        }
    }
}
