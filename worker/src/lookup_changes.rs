//! Tells all workers that a lookup's own table changed, so that they drop what they cached of it.
//!
//! Redis pub/sub loses messages; a lost one costs at most the lookup's `ttl`, or its `negative_ttl` for keys that were
//! missing. So nothing is repeated here, and a subscription that was interrupted drops everything once.

use std::sync::Arc;
use std::time::Duration;

use reprise_shared::catalog::{Catalog, LookupIndex};
use reprise_shared::enrich::Lookups;
use reprise_shared::lookup_changes::Change;
use reprise_shared::redis::{Event, Redis, Subscription};
use reprise_shared::telemetry::chain;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// At most this many changes wait to be published; more are dropped and their keys expire by themselves.
const QUEUE: usize = 1_024;
/// A silent subscription is asked for a sign of life this often.
const PING_EVERY: Duration = Duration::from_secs(5);
/// A lost subscription is opened again after this long.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Where lanes report committed keys. Cheap to clone; never blocks.
#[derive(Clone, Debug)]
pub struct Reporter {
    catalog: Arc<Catalog>,
    queue: mpsc::Sender<(LookupIndex, Vec<String>)>,
}

/// Publishes what lanes report and drops what others publish.
pub struct Exchange {
    catalog: Arc<Catalog>,
    lookups: Lookups,
    redis: Redis,
    reported: mpsc::Receiver<(LookupIndex, Vec<String>)>,
}

/// Makes both ends.
pub fn new(catalog: Arc<Catalog>, lookups: Lookups, redis: Redis) -> (Reporter, Exchange) {
    let (queue, reported) = mpsc::channel(QUEUE);
    let exchange = Exchange {
        catalog: Arc::clone(&catalog),
        lookups,
        redis,
        reported,
    };
    (Reporter { catalog, queue }, exchange)
}

impl Reporter {
    /// Reports keys whose rows were committed.
    pub fn committed(&self, lookup: LookupIndex, keys: Vec<String>) {
        if self.queue.try_send((lookup, keys)).is_err() {
            tracing::debug!(
                lookup = self.catalog.lookup(lookup).name,
                "lookup changes are not published: too many"
            );
        }
    }
}

impl Exchange {
    /// Works until shutdown. Cancel-safe.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let channel = Change::channel(&self.redis);
        // Nothing is cached before the first subscription that could be stale because of a lost message.
        let mut first = true;
        while !shutdown.is_cancelled() {
            let mut subscription = match self.redis.subscribe(&channel, QUEUE).await {
                Ok(subscription) => Some(subscription),
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "subscribe to lookup changes");
                    None
                }
            };
            if subscription.is_some() && !std::mem::take(&mut first) {
                self.forget_everything();
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.work(subscription.as_mut()) => {}
            }
        }
    }

    /// Publishes and listens until the subscription is lost, or for a moment when there is none.
    async fn work(&mut self, mut subscription: Option<&mut Subscription>) {
        let until = tokio::time::Instant::now() + RECONNECT_AFTER;
        loop {
            let listen = async {
                match &mut subscription {
                    Some(subscription) => match tokio::time::timeout(PING_EVERY, subscription.next()).await {
                        Ok(event) => Some(event),
                        Err(_) if subscription.ping().await.is_ok() => None,
                        Err(_) => Some(Event::Closed),
                    },
                    None => {
                        tokio::time::sleep_until(until).await;
                        Some(Event::Closed)
                    }
                }
            };
            tokio::select! {
                reported = self.reported.recv() => match reported {
                    Some((lookup, keys)) => self.publish(lookup, keys).await,
                    None => tokio::time::sleep(RECONNECT_AFTER).await,
                },
                event = listen => match event {
                    Some(Event::Message(message)) => self.forget(&message),
                    Some(Event::Overflow) => self.forget_everything(),
                    Some(Event::Closed) => return,
                    None => {}
                },
            }
        }
    }

    async fn publish(&self, lookup: LookupIndex, keys: Vec<String>) {
        self.lookups.invalidate(lookup, keys.iter().map(String::as_str));
        let change = Change {
            lookup: self.catalog.lookup(lookup).name.clone(),
            keys,
            all: false,
        };
        if let Err(error) = change.publish(&self.redis).await {
            tracing::debug!(error = %chain(&error), "publish lookup changes");
        }
    }

    fn forget(&self, message: &[u8]) {
        match serde_json::from_slice::<Change>(message) {
            Ok(change) => {
                if let Some(place) = self
                    .catalog
                    .lookups
                    .iter()
                    .position(|lookup| lookup.name == change.lookup)
                {
                    let lookup = LookupIndex(place);
                    if change.all {
                        self.lookups.invalidate_all(lookup);
                    } else {
                        self.lookups.invalidate(lookup, change.keys.iter().map(String::as_str));
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "a lookup change that cannot be read is ignored"),
        }
    }

    fn forget_everything(&self) {
        for place in 0..self.catalog.lookups.len() {
            self.lookups.invalidate_all(LookupIndex(place));
        }
    }
}
