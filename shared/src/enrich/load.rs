//! How a lookup fills its cache: for a caller, in the background, and at start.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tokio::time::timeout;
use tracing::warn;

use super::cache::Found;
use super::flight::{Departure, Landing, Loaded};
use super::query::MOST_KEYS;
use super::{Error, Table, Value};
use crate::supervise::{OnCancel, OnError};
use crate::telemetry::chain;

impl Table {
    pub(super) fn peek(&self, key: &str) -> Option<Value> {
        self.find(key).map(|found| found.value)
    }

    /// Asks the cache for a key, counts the answer, and has the key refreshed when that is due.
    pub(super) fn find(&self, key: &str) -> Option<Found> {
        let Some(found) = self.cache.get(key) else {
            self.metrics.misses.increment(1);
            return None;
        };
        self.metrics.hits.increment(1);
        if found.ask_refresh && !self.refreshes.push(key) {
            self.cache.refresh_failed(key);
        }
        Some(found)
    }

    pub(super) async fn resolve(self: &Arc<Self>, keys: &[&str]) -> Result<Vec<Value>, Error> {
        let mut values = vec![None; keys.len()];
        let mut missing: HashMap<&str, Value, RandomState> = HashMap::default();
        let mut places = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            match self.peek(key) {
                Some(value) => values[place] = value,
                None => {
                    missing.insert(key, None);
                    places.push(place);
                }
            }
        }
        if places.is_empty() {
            return Ok(values);
        }
        let wanted: Vec<&str> = missing.keys().copied().collect();
        let landings = self.load(&wanted, |key| {
            let Some(found) = self.cache.get(key) else { return false };
            missing.insert(key, found.value);
            true
        });
        for landing in landings {
            let loaded = self.wait(landing).await?;
            for (key, value) in &mut missing {
                if let Some(found) = loaded.get(*key) {
                    value.clone_from(found);
                }
            }
        }
        for place in places {
            values[place] = missing.get(keys[place]).cloned().flatten();
        }
        Ok(values)
    }

    /// Sees to it that each key is being loaded, except those that `cached` says are known, and returns the loads to
    /// wait for.
    pub(super) fn load<'a>(self: &Arc<Self>, keys: &[&'a str], cached: impl FnMut(&'a str) -> bool) -> Vec<Landing> {
        let boarding = self.flights.board(keys.iter().copied(), MOST_KEYS, cached);
        for departure in boarding.departures {
            let load = Load {
                table: self.clone(),
                departure,
                landed: false,
            };
            self.source
                .supervisor
                .spawn("lookup load", OnError::Log, OnCancel::Abort, load.run());
        }
        boarding.landings
    }

    /// Waits for a load. Cancel-safe.
    pub(super) async fn wait(&self, mut landing: Landing) -> Result<Loaded, Error> {
        let stopped = || Error::Stopped {
            lookup: self.name.clone(),
        };
        let landed = landing.wait_for(Option::is_some).await.map_err(|_closed| stopped())?;
        landed.clone().ok_or_else(stopped)?
    }

    /// Reads the table page by page, until its end or the cache's capacity.
    pub(super) async fn preload(&self) -> Result<u64, Error> {
        let _only_one = self.preloading.lock().await;
        let mut cached = 0;
        let mut after: Option<String> = None;
        while cached < self.cache.capacity() {
            let left = u32::try_from(self.cache.capacity() - cached).unwrap_or(u32::MAX);
            let limit = left.min(self.source.limits.preload_page.max(1));
            self.flights.begin_page();
            let page = self.statements.page(&self.source.pool, after.as_deref(), limit);
            let (rows, loaded_at) = self.ask(page).await?;
            self.metrics.rows.increment(rows.len() as u64);
            after = rows.last().map(|(key, _)| key.clone());
            let at_end = rows.len() < limit as usize;
            let found = rows.into_iter().filter_map(|(key, value)| Some((key, value?)));
            self.flights.end_page(found, |key, value| {
                self.cache.insert(key.into(), Some(value.into()), loaded_at);
                cached += 1;
            });
            if at_end {
                break;
            }
        }
        Ok(cached)
    }

    /// Waits for a turn, asks the table, and returns the answer with the time when it was asked.
    async fn ask<T>(&self, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<(T, Duration), Error> {
        let limit = self.source.limits.load_timeout;
        let asked = async {
            let Ok(_turn) = self.source.turns.acquire().await else {
                return Err(Error::Stopped {
                    lookup: self.name.clone(),
                });
            };
            self.metrics.queries.increment(1);
            let asked_at = self.cache.now();
            let answer = query.await;
            answer.map(|answer| (answer, asked_at)).map_err(|source| Error::Query {
                lookup: self.name.clone(),
                source: Arc::new(source),
            })
        };
        let answer = timeout(limit, asked).await.unwrap_or_else(|_elapsed| {
            Err(Error::TimedOut {
                lookup: self.name.clone(),
                limit,
            })
        });
        if let Err(error) = &answer {
            self.metrics.failures.increment(1);
            warn!(lookup = %self.name, error = %chain(error), "lookup query failed");
        }
        answer
    }
}

/// One query for some keys, in a task of its own.
struct Load {
    table: Arc<Table>,
    departure: Departure,
    landed: bool,
}

impl Load {
    async fn run(mut self) -> Result<(), Infallible> {
        let table = &self.table;
        match table
            .ask(table.statements.load(&table.source.pool, &self.departure.keys))
            .await
        {
            Ok(((values, rows), loaded_at)) => {
                table.metrics.rows.increment(rows);
                self.land(Ok(Arc::new(values)), loaded_at);
            }
            Err(error) => self.land(Err(error), Duration::ZERO),
        }
        Ok(())
    }

    fn land(&mut self, result: Result<Loaded, Error>, loaded_at: Duration) {
        self.landed = true;
        let cache = &self.table.cache;
        if result.is_err() {
            for key in &self.departure.keys {
                cache.refresh_failed(key);
            }
        }
        self.table.flights.land(&self.departure, result, |key, value| {
            cache.insert(key.clone(), value.clone(), loaded_at);
        });
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if !self.landed {
            let lookup = self.table.name.clone();
            self.land(Err(Error::Stopped { lookup }), Duration::ZERO);
        }
    }
}
