//! What is known about keys, and for how long it counts.
//!
//! Age is judged here, when an entry is read, by the injected clock; `moka` bounds the number of entries and decides
//! which to keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;

use super::Value;
use crate::catalog::Lookup;
use crate::clock::Clock;

/// A reader's own memory of an entry lasts no longer than this.
const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// How long entries count.
#[derive(Clone, Copy, Debug)]
struct Ages {
    ttl: Duration,
    refresh_after: Duration,
    negative_ttl: Duration,
}

/// What an entry is good for at its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    Fresh,
    /// Served, and loaded anew in the background.
    Due,
    Expired,
}

impl Ages {
    fn judge(self, found: bool, age: Duration) -> Freshness {
        if !found {
            return if age < self.negative_ttl {
                Freshness::Fresh
            } else {
                Freshness::Expired
            };
        }
        if age >= self.ttl {
            Freshness::Expired
        } else if age >= self.refresh_after {
            Freshness::Due
        } else {
            Freshness::Fresh
        }
    }
}

/// A bounded map from keys to values, with the time of their load.
pub(super) struct Cache {
    entries: moka::sync::Cache<Arc<str>, Arc<Entry>, RandomState>,
    ages: Ages,
    clock: Clock,
    capacity: u64,
}

struct Entry {
    value: Value,
    loaded_at: Duration,
    /// Whether someone has asked for this entry's refresh, so that a key is queued once and not at every use.
    refresh_asked: AtomicBool,
}

/// What the cache says to a key.
pub(super) struct Found {
    pub(super) value: Value,
    /// It is not due for a refresh yet.
    pub(super) fresh: bool,
    /// The caller is the one who has to ask for a refresh.
    pub(super) ask_refresh: bool,
}

impl Cache {
    pub(super) fn new(lookup: &Lookup, clock: Clock) -> Self {
        Self {
            entries: moka::sync::Cache::builder()
                .max_capacity(lookup.capacity)
                .build_with_hasher(RandomState::default()),
            ages: Ages {
                ttl: lookup.ttl,
                refresh_after: lookup.refresh_after,
                negative_ttl: lookup.negative_ttl,
            },
            clock,
            capacity: lookup.capacity,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Found> {
        let entry = self.entries.get(key)?;
        let age = self.clock.monotonic().saturating_sub(entry.loaded_at);
        let freshness = self.ages.judge(entry.value.is_some(), age);
        let ask_refresh = match freshness {
            Freshness::Fresh => false,
            Freshness::Due => {
                // The load comes first because it does not write to a line that all readers share.
                !entry.refresh_asked.load(Ordering::Relaxed) && !entry.refresh_asked.swap(true, Ordering::Relaxed)
            }
            Freshness::Expired => return None,
        };
        Some(Found {
            value: entry.value.clone(),
            fresh: freshness == Freshness::Fresh,
            ask_refresh,
        })
    }

    /// Lets a key's refresh be asked for again, because the last one came to nothing.
    pub(super) fn refresh_failed(&self, key: &str) {
        if let Some(entry) = self.entries.get(key) {
            entry.refresh_asked.store(false, Ordering::Relaxed);
        }
    }

    /// Stores what a load brought. `loaded_at` is when the load began, because that is what its answer is about.
    pub(super) fn insert(&self, key: Arc<str>, value: Value, loaded_at: Duration) {
        self.entries.insert(
            key,
            Arc::new(Entry {
                value,
                loaded_at,
                refresh_asked: AtomicBool::new(false),
            }),
        );
    }

    pub(super) fn remove(&self, key: &str) {
        self.entries.invalidate(key);
    }

    pub(super) fn clear(&self) {
        // Not `invalidate_all`: that compares times of insertion, and entries of the same instant would survive.
        for (key, _) in &self.entries {
            self.entries.invalidate(&*key);
        }
    }

    /// Returns how long a reader may remember a fresh value: then it is served before its `ttl` only, and its
    /// refresh is asked for at most this late.
    pub(super) fn hold(&self) -> Duration {
        LONGEST_HOLD.min(self.ages.ttl.saturating_sub(self.ages.refresh_after))
    }

    /// Returns the time that loads are dated with.
    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Returns about how many keys are cached.
    pub(super) fn len(&self) -> u64 {
        self.entries.entry_count()
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn cache(clock: &Clock, capacity: u64) -> Cache {
        let lookup = Lookup {
            name: "fund_code".to_owned(),
            table: "t_fund_basic_info".to_owned(),
            key: "performance_id".to_owned(),
            value: "fund_code".to_owned(),
            search: Vec::new(),
            ttl: Duration::from_secs(60),
            refresh_after: Duration::from_secs(45),
            negative_ttl: Duration::from_secs(5),
            capacity,
            preload: false,
        };
        Cache::new(&lookup, clock.clone())
    }

    fn put(cache: &Cache, key: &str, value: Option<&str>) {
        cache.insert(key.into(), value.map(Arc::from), cache.now());
    }

    #[test]
    fn a_value_is_served_until_its_ttl() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let cache = cache(&clock, 10);
        put(&cache, "P1", Some("F1"));

        clock.advance(Duration::from_millis(59_999));
        assert_eq!(cache.get("P1").expect("a hit").value.as_deref(), Some("F1"));
        clock.advance(Duration::from_millis(1));
        assert!(cache.get("P1").is_none());
    }

    #[test]
    fn a_miss_counts_for_the_shorter_time() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let cache = cache(&clock, 10);
        put(&cache, "P1", None);

        clock.advance(Duration::from_millis(4_999));
        assert_eq!(cache.get("P1").expect("a hit").value, None);
        clock.advance(Duration::from_millis(1));
        assert!(cache.get("P1").is_none());
    }

    #[test]
    fn one_reader_alone_is_told_to_ask_for_a_refresh_until_it_failed() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let cache = cache(&clock, 10);
        put(&cache, "P1", Some("F1"));
        assert!(!cache.get("P1").expect("a hit").ask_refresh);

        clock.advance(Duration::from_secs(45));
        assert!(cache.get("P1").expect("a hit").ask_refresh);
        assert!(!cache.get("P1").expect("a hit").ask_refresh);

        cache.refresh_failed("P1");
        assert!(cache.get("P1").expect("a hit").ask_refresh);
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let cache = cache(&clock, 100);
        for number in 0..10_000 {
            put(&cache, &format!("P{number}"), Some("F"));
        }
        cache.entries.run_pending_tasks();

        assert!(cache.len() <= 100, "{}", cache.len());
    }

    #[test]
    fn clearing_leaves_nothing_even_of_the_same_instant() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let cache = cache(&clock, 1_000);
        for number in 0..500 {
            put(&cache, &format!("P{number}"), Some("F"));
        }

        cache.clear();

        assert!((0..500).all(|number| cache.get(&format!("P{number}")).is_none()));
    }
}
