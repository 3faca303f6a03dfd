//! Lookups: read-through maps from tables, kept in local caches.
//!
//! Invariants:
//! - Only a successful query without a row (or with a NULL value) says that a key has no value. An error is an error,
//!   is cached nowhere, and means that the caller tries again.
//! - However many callers miss a key at one time, one query asks for it. The query runs in a task of its own, so a
//!   caller that goes away stalls nobody.
//! - An invalidation wins over every load that began before it: what such a load brings is not cached.
//! - Keys are compared byte by byte, whatever the column's collation says.
//! - A hit costs a hash look-up and a note for the eviction policy: no allocation and no await. A thread's [`Front`]
//!   spares it the note, and allocates once a key and second.

mod cache;
mod flight;
mod front;
mod load;
mod query;
mod refresh;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::MySqlPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, LookupIndex};
use crate::clock::Clock;
use crate::supervise::Supervisor;
use crate::telemetry::names::LookupMetrics;

use cache::Cache;
use flight::Flights;
use query::Statements;
use refresh::RefreshQueue;

pub use front::Front;

/// What a key maps to; `None`: the table has no such key.
pub type Value = Option<Arc<str>>;

/// Bounds on what lookups ask of MySQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// At most this many queries at one time, over all lookups; further ones wait.
    pub concurrent_queries: usize,
    /// A load that takes longer, its wait for a connection included, fails.
    pub load_timeout: Duration,
    /// How often the keys that are due for a refresh are asked for together, at most 1,000 at a time and lookup.
    pub refresh_interval: Duration,
    /// At most this many keys of one lookup wait for their refresh; others are asked for again by a later use.
    pub refresh_backlog: usize,
    /// How many rows one query of a preload reads.
    pub preload_page: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_queries: 4,
            load_timeout: Duration::from_secs(10),
            refresh_interval: Duration::from_millis(100),
            refresh_backlog: 100_000,
            preload_page: 5_000,
        }
    }
}

/// Why a lookup could not answer. It says nothing about the keys, and the caller may try again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A query failed.
    #[error("lookup {lookup} cannot read its table")]
    Query {
        /// The lookup's name.
        lookup: Arc<str>,
        /// What MySQL or the connection said.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// A query, or the wait for its turn, took too long.
    #[error("lookup {lookup} had no answer from its table within {limit:?}")]
    TimedOut {
        /// The lookup's name.
        lookup: Arc<str>,
        /// [`Limits::load_timeout`].
        limit: Duration,
    },
    /// The load was dropped, because the process stops.
    #[error("lookup {lookup} was stopped while it read its table")]
    Stopped {
        /// The lookup's name.
        lookup: Arc<str>,
    },
}

/// All lookups of a catalog. A cheap handle: clones share the caches.
#[derive(Clone)]
pub struct Lookups(Arc<Shared>);

struct Shared {
    tables: Vec<Arc<Table>>,
    limits: Limits,
}

/// One lookup: its cache, what is being loaded, and how it reads its table.
struct Table {
    name: Arc<str>,
    cache: Cache,
    flights: Flights,
    /// Raised after each invalidation, for what is remembered outside of the cache.
    invalidations: AtomicU64,
    refreshes: RefreshQueue,
    statements: Statements,
    preload: bool,
    preloading: tokio::sync::Mutex<()>,
    metrics: LookupMetrics,
    source: Source,
}

/// What loads of all lookups share.
#[derive(Clone)]
struct Source {
    pool: MySqlPool,
    turns: Arc<Semaphore>,
    supervisor: Supervisor,
    limits: Limits,
}

impl Lookups {
    /// Makes the lookups of a catalog, empty. Loads run as tasks of the supervisor and are dropped when it stops.
    ///
    /// Metrics are counted from here on if [`Metrics::install`](crate::telemetry::Metrics::install) was called before.
    pub fn new(catalog: &Catalog, pool: MySqlPool, clock: Clock, supervisor: Supervisor, limits: Limits) -> Self {
        let turns = Arc::new(Semaphore::new(limits.concurrent_queries));
        let source = Source {
            pool,
            turns,
            supervisor,
            limits,
        };
        let tables = catalog
            .lookups
            .iter()
            .map(|lookup| {
                Arc::new(Table {
                    name: lookup.name.as_str().into(),
                    cache: Cache::new(lookup, clock.clone()),
                    flights: Flights::default(),
                    invalidations: AtomicU64::new(0),
                    refreshes: RefreshQueue::new(limits.refresh_backlog),
                    statements: Statements::new(lookup),
                    preload: lookup.preload,
                    preloading: tokio::sync::Mutex::default(),
                    metrics: LookupMetrics::of(&lookup.name),
                    source: source.clone(),
                })
            })
            .collect();
        Self(Arc::new(Shared { tables, limits }))
    }

    /// Returns what the cache knows about a key: `None` means that it has to be resolved, `Some(None)` that the table
    /// has no such key.
    pub fn peek(&self, lookup: LookupIndex, key: &str) -> Option<Value> {
        self.table(lookup).peek(key)
    }

    /// Returns the values of some keys, in their order; keys may repeat. What the cache knows is taken from there, the
    /// rest is loaded with one query for every 1,000 keys.
    ///
    /// Cancel-safe: loads that were begun go on, and what they bring is cached.
    ///
    /// # Errors
    /// When a load failed. Nothing is known about the keys then; all errors are transient.
    pub async fn resolve(&self, lookup: LookupIndex, keys: &[&str]) -> Result<Vec<Value>, Error> {
        self.table(lookup).resolve(keys).await
    }

    /// Drops what the cache knows about some keys, misses included. A load of theirs that is under way does not bring
    /// it back.
    pub fn invalidate<'a>(&self, lookup: LookupIndex, keys: impl IntoIterator<Item = &'a str>) {
        let table = self.table(lookup);
        table.flights.forget(keys, |key| table.cache.remove(key));
        table.invalidations.fetch_add(1, Ordering::Release);
    }

    /// Drops everything the cache knows. Loads that are under way do not bring it back.
    pub fn invalidate_all(&self, lookup: LookupIndex) {
        let table = self.table(lookup);
        table.flights.forget_all(|| table.cache.clear());
        table.invalidations.fetch_add(1, Ordering::Release);
    }

    /// Reads the tables of the lookups that ask for it, page by page, until their end or the cache's capacity.
    /// Returns how many keys were cached.
    ///
    /// Cancel-safe: what was read stays cached.
    ///
    /// # Errors
    /// When a query failed. What was read stays cached, and a second call reads everything again.
    pub async fn preload(&self) -> Result<u64, Error> {
        let mut keys = 0;
        for table in self.0.tables.iter().filter(|table| table.preload) {
            keys += table.preload().await?;
        }
        Ok(keys)
    }

    /// Refreshes what is due, until shutdown. Without it, values are served until their `ttl` and then loaded anew.
    ///
    /// Cancel-safe: keys whose refresh was dropped are due again at their next use.
    pub async fn run(&self, shutdown: CancellationToken) {
        refresh::run(&self.0.tables, self.0.limits.refresh_interval, shutdown).await;
    }

    fn table(&self, lookup: LookupIndex) -> &Arc<Table> {
        &self.0.tables[lookup.0]
    }
}

impl std::fmt::Debug for Lookups {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_list()
            .entries(self.0.tables.iter().map(|table| &table.name))
            .finish()
    }
}
