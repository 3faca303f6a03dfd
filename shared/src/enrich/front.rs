//! A thread's own short memory in front of the shared caches.
//!
//! A shared cache notes every read for its eviction policy and asks the clock, which costs more than the rest of a
//! hit. Records of one id come again and again, so each decode thread remembers for a moment what it read.
//!
//! Invariants:
//! - What is remembered was read from the cache after the last invalidation that [`Front::begin`] saw. So an
//!   invalidation wins from the next chunk on, as it does over a value that a chunk holds already.
//! - Only values that are not due for a refresh are remembered, and for so short a time that none outlives its `ttl`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{Lookups, Table, Value};
use crate::catalog::LookupIndex;

/// At most this many keys of one lookup are remembered; then all are forgotten.
const CAPACITY: usize = 16_384;

/// What one thread remembers of all lookups.
#[derive(Debug, Default)]
pub struct Front {
    tables: Vec<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The number of invalidations before the first value was read.
    invalidations: u64,
    /// When the first value may have been read.
    since: Duration,
    values: HashMap<Box<str>, Arc<str>, RandomState>,
    hits: u64,
}

impl Front {
    /// Begins a chunk: forgets what was invalidated since, or has been remembered for long enough.
    pub fn begin(&mut self, lookups: &Lookups) {
        self.tables.resize_with(lookups.0.tables.len(), Known::default);
        for (known, table) in self.tables.iter_mut().zip(&lookups.0.tables) {
            known.begin(table);
        }
    }

    /// Returns what is known about a key, as [`Lookups::peek`] does. That a key has no value is never remembered.
    pub fn peek(&mut self, lookups: &Lookups, lookup: LookupIndex, key: &str) -> Option<Value> {
        let Some(known) = self.tables.get_mut(lookup.0) else {
            return lookups.peek(lookup, key);
        };
        if let Some(value) = known.values.get(key) {
            known.hits += 1;
            return Some(Some(Arc::clone(value)));
        }
        let found = lookups.table(lookup).find(key)?;
        if let (Some(value), true) = (&found.value, found.fresh && known.values.len() < CAPACITY) {
            known.values.insert(key.into(), Arc::clone(value));
        }
        Some(found.value)
    }
}

impl Known {
    fn begin(&mut self, table: &Table) {
        table.metrics.hits.increment(std::mem::take(&mut self.hits));
        let invalidations = table.invalidations.load(Ordering::Acquire);
        let now = table.cache.now();
        let is_old = self.since + table.cache.hold() <= now;
        if is_old || self.invalidations != invalidations || self.values.len() >= CAPACITY {
            self.values.clear();
            (self.invalidations, self.since) = (invalidations, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::catalog;
    use crate::clock::Clock;
    use crate::enrich::Limits;
    use crate::supervise::Supervisor;

    const LOOKUP: LookupIndex = LookupIndex(0);

    /// The shipped lookup, over a table that nobody asks.
    fn lookups(clock: &Clock) -> Lookups {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/catalog.yaml");
        let catalog = catalog::load(path.as_ref()).expect("the shipped catalog");
        let pool = sqlx::MySqlPool::connect_lazy("mysql://nobody@localhost/none").expect("a URL");
        let supervisor = Supervisor::new(CancellationToken::new());
        Lookups::new(&catalog, pool, clock.clone(), supervisor, Limits::default())
    }

    fn put(lookups: &Lookups, value: &str) {
        let cache = &lookups.table(LOOKUP).cache;
        cache.insert("P1".into(), Some(value.into()), cache.now());
    }

    fn peek(front: &mut Front, lookups: &Lookups) -> Option<String> {
        front.begin(lookups);
        Some(front.peek(lookups, LOOKUP, "P1")??.to_string())
    }

    #[tokio::test]
    async fn an_invalidation_wins_from_the_next_chunk_on() {
        let lookups = lookups(&Clock::manual(Timestamp::UNIX_EPOCH));
        let mut front = Front::default();
        put(&lookups, "old");
        assert_eq!(peek(&mut front, &lookups).as_deref(), Some("old"));
        // A refresh may be a moment late, so that there is something to gain.
        put(&lookups, "new");
        assert_eq!(peek(&mut front, &lookups).as_deref(), Some("old"));
        lookups.invalidate(LOOKUP, ["P1"]);
        assert_eq!(peek(&mut front, &lookups), None);
        put(&lookups, "old");
        assert_eq!(peek(&mut front, &lookups).as_deref(), Some("old"));
        lookups.invalidate_all(LOOKUP);
        assert_eq!(peek(&mut front, &lookups), None);
    }

    #[tokio::test]
    async fn no_value_outlives_its_ttl_and_one_that_is_due_is_not_remembered() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let lookups = lookups(&clock);
        let mut front = Front::default();
        put(&lookups, "old");
        // Of the shipped lookup: due after 45 minutes, dead after 60.
        clock.advance(Duration::from_secs(45 * 60) - Duration::from_millis(1));
        assert_eq!(peek(&mut front, &lookups).as_deref(), Some("old"));
        put(&lookups, "new");
        clock.advance(Duration::from_secs(1));
        assert_eq!(peek(&mut front, &lookups).as_deref(), Some("new"));
        clock.advance(Duration::from_secs(45 * 60));
        assert_eq!(peek(&mut front, &lookups).as_deref(), Some("new"));
        put(&lookups, "newest");
        assert_eq!(peek(&mut front, &lookups).as_deref(), Some("newest"));
    }
}
