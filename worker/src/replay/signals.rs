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
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::live_first::{self, Decision, Flow, Live, Signals, Speed, decide, rest};
use super::probe::Probe;
use super::running::Running;
use crate::metrics;

/// What was decided last, and where small writes are timed. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LiveFirst(Arc<State>);

#[derive(Debug)]
struct State {
    /// `None` before the first look since a task began.
    decision: watch::Sender<Option<Decision>>,
    slowest: Mutex<Duration>,
    share: f64,
    batch_rows: usize,
    most_rest: Duration,
}

impl LiveFirst {
    /// No rest is longer than `most_rest`, for a connection that is silent for too long is closed.
    pub(super) fn new(config: &live_first::Config, most_rest: Duration) -> Self {
        Self(Arc::new(State {
            decision: watch::Sender::new(None),
            slowest: Mutex::new(Duration::ZERO),
            share: config.share,
            batch_rows: config.batch_rows,
            most_rest,
        }))
    }

    /// Returns what was decided last. Nothing is read before live traffic was looked at.
    pub(super) fn decision(&self) -> Decision {
        let decision = self.0.decision.borrow().clone();
        decision.unwrap_or_else(|| Decision {
            speed: Speed::Hold,
            reason: "live traffic is looked at first".to_owned(),
            rests: true,
        })
    }

    /// Tells of every new decision.
    pub(super) fn decisions(&self) -> watch::Receiver<Option<Decision>> {
        self.0.decision.subscribe()
    }

    /// Returns how long a lane leaves the database alone after a batch that took so long.
    pub(super) fn rest_after(&self, took: Duration) -> Duration {
        if self.makes_room() {
            rest(took, self.0.share, self.0.most_rest)
        } else {
            Duration::ZERO
        }
    }

    /// Returns how many rows one transaction may have.
    pub(super) fn most_rows(&self) -> usize {
        if self.makes_room() {
            self.0.batch_rows
        } else {
            usize::MAX
        }
    }

    /// Tells whether live traffic flows, or may.
    fn makes_room(&self) -> bool {
        self.0.decision.borrow().as_ref().is_none_or(|decision| decision.rests)
    }

    /// Notes how long a small write took.
    pub(super) fn wrote_in(&self, took: Duration) {
        let mut slowest = self.0.slowest.lock();
        *slowest = slowest.max(took);
    }

    pub(super) fn decide(&self, decision: Option<Decision>) {
        self.0.decision.send_if_modified(|known| {
            let changed = *known != decision;
            *known = decision;
            changed
        });
    }

    fn forget(&self) {
        self.decide(None);
        self.take_slowest();
    }

    fn take_slowest(&self) -> Duration {
        std::mem::take(&mut self.0.slowest.lock())
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
    pub(super) flow: Flow,
    pub(super) clock: Clock,
}

impl Watch {
    /// Works until shutdown. Cancel-safe.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
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

    async fn look(&mut self) {
        let topics: BTreeSet<TopicName> = self.running.topics();
        if topics.is_empty() {
            self.state.forget();
            return;
        }
        let (live, answered_in, replica_lag) =
            tokio::join!(self.live(topics.into_iter().collect()), self.ping(), self.replica_lag());
        let live_flows = self.flow.flows(live, self.clock.monotonic(), self.config.still_after);
        let signals = Signals {
            live_lag: live.map(|live| live.lag),
            live_flows,
            latency: answered_in.max(self.state.take_slowest()),
            replica_lag,
        };
        let before = self.state.0.decision.borrow().as_ref().map(Decision::pace);
        let held = before.is_some_and(|(speed, _)| speed == Speed::Hold);
        let decision = decide(held, &signals, &self.config);
        let is_held = decision.speed == Speed::Hold;
        metrics::live_first(signals.live_lag, signals.latency, is_held, decision.rests);
        if before != Some(decision.pace()) {
            tracing::info!(
                reason = decision.reason,
                speed = ?decision.speed,
                rests = decision.rests,
                "the speed of replays"
            );
        }
        self.state.decide(Some(decision));
    }

    async fn live(&self, topics: Vec<TopicName>) -> Option<Live> {
        match self.probe.live(topics).await {
            Ok(live) => live,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(speed: Speed, rests: bool) -> Option<Decision> {
        Some(Decision {
            speed,
            reason: String::new(),
            rests,
        })
    }

    #[test]
    fn a_new_decision_is_told_at_once_and_the_same_again_is_not() {
        let live_first = LiveFirst::new(&live_first::Config::default(), Duration::from_secs(1));
        let mut told = live_first.decisions();
        let mut is_told = || {
            let told_now = told.has_changed().expect("the sender lives");
            told.mark_unchanged();
            told_now
        };
        assert_eq!(live_first.decision().speed, Speed::Hold, "nothing was looked at");
        live_first.decide(decision(Speed::Full, true));
        assert!(is_told());
        live_first.decide(decision(Speed::Full, true));
        assert!(!is_told());
        live_first.forget();
        assert!(is_told() && live_first.decision().speed == Speed::Hold);
    }

    #[test]
    fn lanes_make_room_unless_live_traffic_is_known_to_stand_still() {
        let config = live_first::Config::default();
        let live_first = LiveFirst::new(&config, Duration::from_secs(1));
        let took = Duration::from_millis(20);
        let room = || (live_first.rest_after(took), live_first.most_rows());
        assert_eq!(room(), (took, config.batch_rows));
        live_first.decide(decision(Speed::Full, true));
        assert_eq!(room(), (took, config.batch_rows));
        live_first.decide(decision(Speed::Full, false));
        assert_eq!(room(), (Duration::ZERO, usize::MAX));
    }
}
