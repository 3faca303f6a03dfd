//! Keeps a worker's whitelist current: subscribe first, then read, then listen and poll.
//!
//! Messages are hints, the poll is the guarantee (I7): a change whose every notice was lost is found within one poll
//! period. The poll runs on the pool and the messages on a connection of their own, so neither takes the other down:
//! without a subscription (also when its channel is forbidden) the poll goes on, more often.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::follower::{Follower, Next};
use super::handle::{Handle, Status};
use super::keys::Keys;
use super::script::Reader;
use crate::backoff::{Backoff, Waits};
use crate::clock::Clock;
use crate::redis::{Error, Event, Redis, Subscription};

/// Limits of a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The pause between two questions for the version, 4 s by default, so that a change is held within 5 s (I7).
    pub poll: Duration,
    /// At most this many notices wait while a snapshot is built; more become one full read. 1,024 by default.
    pub waiting_notices: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(4),
            waiting_notices: 1_024,
        }
    }
}

/// Follows the whitelist in Redis. Run exactly one per process.
pub struct Watcher {
    redis: Redis,
    reader: Reader,
    channel: String,
    config: Config,
    follower: Follower,
    handle: Handle,
    waits: Waits,
}

impl Watcher {
    /// Makes a watcher and the handle to what it holds. `type_names` are the catalog's data types in catalog order.
    pub fn new(redis: Redis, type_names: Vec<String>, config: Config, clock: Clock) -> (Self, Handle) {
        let handle = Handle::new(clock);
        let watcher = Self {
            reader: Reader::new(redis.clone()),
            channel: Keys::new(redis.prefix()).changes(),
            follower: Follower::new(Arc::from(type_names)),
            waits: BACKOFF.waits(),
            handle: handle.clone(),
            redis,
            config,
        };
        (watcher, handle)
    }

    /// Follows until `shutdown`. No fault of Redis ends it. Cancel-safe: what the handle shows stays as it is.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        let mut subscription = None;
        loop {
            // Subscribed first and read after: a change between the two is in what is read, a later one is heard of.
            self.keep_subscribed(&mut subscription).await;
            let reached = self.poll().await;
            let healthy = reached && subscription.is_some();
            let pause = if healthy { self.config.poll } else { self.next_backoff() };
            let ended = match &mut subscription {
                Some(messages) => self.listen(messages, Instant::now() + pause).await,
                None => {
                    tokio::time::sleep(pause).await;
                    Ended::Due
                }
            };
            match ended {
                Ended::Due if healthy => self.waits = BACKOFF.waits(),
                Ended::Due => {}
                Ended::Closed => {
                    subscription = None;
                    let pause = self.next_backoff();
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn next_backoff(&mut self) -> Duration {
        self.waits.next_wait().min(self.config.poll)
    }

    /// Pings the subscription, since a black-holed one never closes, and opens one where there is none.
    async fn keep_subscribed(&self, subscription: &mut Option<Subscription>) {
        if let Some(open) = subscription {
            match open.ping().await {
                Ok(()) => return,
                Err(error) => warn("lost the subscription to whitelist changes", &error),
            }
        }
        *subscription = match self.redis.subscribe(&self.channel, self.config.waiting_notices).await {
            Ok(open) => Some(open),
            Err(error) => {
                warn("could not subscribe to whitelist changes", &error);
                None
            }
        };
    }

    /// Compares the version, and reads everything if it differs. False when Redis did not answer.
    async fn poll(&mut self) -> bool {
        let head = self.reader.head().await;
        match head {
            Ok(head) => match self.follower.on_head(head.as_ref()) {
                Next::ReadInFull => self.read_in_full().await,
                Next::Nothing => {
                    self.publish();
                    true
                }
            },
            Err(error) => self.unreachable(&error),
        }
    }

    async fn read_in_full(&mut self) -> bool {
        match self.reader.content().await {
            Ok(content) => {
                self.follower.on_content(content);
                self.publish();
                true
            }
            Err(error) => self.unreachable(&error),
        }
    }

    fn unreachable(&mut self, error: &Error) -> bool {
        if self.follower.status() != Status::Unreachable {
            warn("could not read the whitelist; the last known one stays in use", error);
        }
        self.follower.on_unreachable();
        self.publish();
        false
    }

    /// Takes messages until `deadline` or until the subscription ends. What is waiting is taken as one burst, so that
    /// one snapshot is built, or one full read made, for all of it.
    async fn listen(&mut self, subscription: &mut Subscription, deadline: Instant) -> Ended {
        loop {
            let Ok(event) = tokio::time::timeout_at(deadline, subscription.next()).await else {
                return Ended::Due;
            };
            let mut next = match event {
                Event::Message(message) => self.follower.on_message(&message),
                Event::Overflow => Next::ReadInFull,
                Event::Closed => return Ended::Closed,
            };
            for _ in 0..self.config.waiting_notices {
                let Some(message) = subscription.next_waiting() else {
                    break;
                };
                if self.follower.on_message(&message) == Next::ReadInFull {
                    next = Next::ReadInFull;
                }
            }
            match next {
                Next::Nothing => self.publish(),
                Next::ReadInFull if self.read_in_full().await => {}
                Next::ReadInFull => return Ended::Due,
            }
        }
    }

    fn publish(&mut self) {
        let before = self.handle.status();
        let (snapshot, status) = (self.follower.take_unpublished(), self.follower.status());
        if let Some(snapshot) = &snapshot {
            let (version, ids) = (snapshot.version().0, snapshot.len());
            tracing::debug!(
                whitelist.version = version,
                whitelist.ids = ids,
                "applied a whitelist version"
            );
        }
        if before != status {
            match status {
                Status::Ok => tracing::info!("the whitelist is current"),
                Status::Unreachable => {}
                Status::Unknown => tracing::warn!("redis holds no whitelist; the last known one stays in use"),
                Status::Regressed => tracing::warn!("redis holds an older whitelist; the last known one stays in use"),
            }
        }
        self.handle.publish(snapshot, status);
    }
}

/// Why listening ended.
enum Ended {
    Due,
    Closed,
}

/// Redis is asked again within a second of its return.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

fn warn(what: &'static str, error: &Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}
