//! Values that are used after `refresh_after` are loaded anew in the background, many with one query.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Table;
use super::query::MOST_KEYS;

/// The keys of one lookup that are due.
pub(super) struct RefreshQueue {
    keys: Mutex<Vec<Arc<str>>>,
    limit: usize,
}

impl RefreshQueue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            keys: Mutex::default(),
            limit,
        }
    }

    /// Queues a key; returns `false` when the queue is full.
    pub(super) fn push(&self, key: &str) -> bool {
        let mut keys = self.keys.lock();
        let has_room = keys.len() < self.limit;
        if has_room {
            keys.push(key.into());
        }
        has_room
    }

    /// Takes at most `count` keys, those that wait longest first, and returns how many are left.
    fn take(&self, count: usize) -> (Vec<Arc<str>>, usize) {
        let mut keys = self.keys.lock();
        let count = count.min(keys.len());
        (keys.drain(..count).collect(), keys.len())
    }
}

/// Asks for what is due, one query for each lookup and interval, until shutdown. A slow query delays the next.
pub(super) async fn run(tables: &[Arc<Table>], every: Duration, shutdown: CancellationToken) {
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let refresh = async {
        loop {
            ticks.tick().await;
            join_all(tables.iter().map(refresh_due)).await;
        }
    };
    // `None`, when shutdown came: the loop itself never ends.
    let _: Option<()> = shutdown.run_until_cancelled(refresh).await;
}

async fn refresh_due(table: &Arc<Table>) {
    let (keys, left) = table.refreshes.take(MOST_KEYS);
    table.metrics.entries.set(table.cache.len() as f64);
    table.metrics.refresh_backlog.set(left as f64);
    if keys.is_empty() {
        return;
    }
    let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
    for landing in table.load(&keys, |_| false) {
        // A failure was logged and counted by the load, and its keys are due again at their next use.
        let _ = table.wait(landing).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_hands_out_a_bounded_number() {
        let queue = RefreshQueue::new(3);
        assert!(queue.push("a") && queue.push("b") && queue.push("c"));
        assert!(!queue.push("d"));

        let (taken, left) = queue.take(2);

        assert_eq!((taken.len(), left), (2, 1));
        assert!(queue.push("d"));
        assert_eq!(queue.take(10).0.len(), 2);
        assert_eq!(queue.take(10).0.len(), 0);
    }
}
