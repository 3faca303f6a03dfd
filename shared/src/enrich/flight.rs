//! Which keys are being loaded, so that one query asks for each, and which of those loads still count.
//!
//! All changes to the cache that a load and an invalidation could dispute happen under this lock: a load caches a key
//! only while the key's flight is its own, and an invalidation takes the flight away.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Error, Value};

/// What a load brought, by key; every key that it asked for is there.
pub(super) type Loaded = Arc<HashMap<Arc<str>, Value, RandomState>>;
/// A load's end; `None` while it is under way.
pub(super) type Landing = watch::Receiver<Option<Result<Loaded, Error>>>;

/// The loads of one lookup that are under way.
#[derive(Default)]
pub(super) struct Flights(Mutex<State>);

#[derive(Default)]
struct State {
    by_key: HashMap<Arc<str>, Flight, RandomState>,
    next_number: u64,
    /// What was invalidated since the page that a preload is reading was asked for.
    invalidated: Invalidated,
}

/// What a page of a preload must not bring back.
#[derive(Default)]
enum Invalidated {
    #[default]
    Nothing,
    Keys(HashSet<Box<str>, RandomState>),
    All,
}

/// Beyond this many keys a page gives up telling which were invalidated while it was read, and caches none.
const MOST_INVALIDATED: usize = 100_000;

struct Flight {
    number: u64,
    landing: Landing,
}

/// A load's own side, to be given to [`Flights::land`] whatever becomes of it.
pub(super) struct Departure {
    number: u64,
    pub(super) keys: Vec<Arc<str>>,
    landed: watch::Sender<Option<Result<Loaded, Error>>>,
}

/// How the keys of a call will be answered.
pub(super) struct Boarding {
    /// Loads that the caller has to start.
    pub(super) departures: Vec<Departure>,
    /// Loads to wait for, the caller's own included, each once.
    pub(super) landings: Vec<Landing>,
}

impl Flights {
    /// Finds or makes a flight for each key, at most `keys_per_load` keys in one.
    ///
    /// `cached` is asked under the lock for keys without a flight, because a load may have ended since the caller
    /// looked; a key that it knows needs no flight.
    pub(super) fn board<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a str>,
        keys_per_load: usize,
        mut cached: impl FnMut(&'a str) -> bool,
    ) -> Boarding {
        let mut state = self.0.lock();
        let mut departures: Vec<Departure> = Vec::new();
        let mut landings: HashMap<u64, Landing, RandomState> = HashMap::default();
        for key in keys {
            if let Some(flight) = state.by_key.get(key) {
                landings.entry(flight.number).or_insert_with(|| flight.landing.clone());
                continue;
            }
            if cached(key) {
                continue;
            }
            let departure = match departures.pop() {
                Some(last) if last.keys.len() < keys_per_load => last,
                full => {
                    departures.extend(full);
                    state.depart()
                }
            };
            departures.push(departure);
            if let Some(departure) = departures.last_mut() {
                let key: Arc<str> = key.into();
                let landing = departure.landed.subscribe();
                departure.keys.push(key.clone());
                landings.entry(departure.number).or_insert_with(|| landing.clone());
                state.by_key.insert(
                    key,
                    Flight {
                        number: departure.number,
                        landing,
                    },
                );
            }
        }
        Boarding {
            departures,
            landings: landings.into_values().collect(),
        }
    }

    /// Ends a load: `cache` is called for each key whose flight is still this one, then everyone who waits is told.
    pub(super) fn land(
        &self,
        departure: &Departure,
        result: Result<Loaded, Error>,
        mut cache: impl FnMut(&Arc<str>, &Value),
    ) {
        {
            let mut state = self.0.lock();
            for key in &departure.keys {
                let own = state
                    .by_key
                    .get(key)
                    .is_some_and(|flight| flight.number == departure.number);
                if !own {
                    continue;
                }
                state.by_key.remove(key);
                if let Ok(loaded) = &result
                    && let Some(value) = loaded.get(key)
                {
                    cache(key, value);
                }
            }
        }
        departure.landed.send_replace(Some(result));
    }

    /// Takes the flights of some keys away from their loads; `remove` drops each from the cache.
    pub(super) fn forget<'a>(&self, keys: impl IntoIterator<Item = &'a str>, mut remove: impl FnMut(&str)) {
        let mut state = self.0.lock();
        for key in keys {
            state.by_key.remove(key);
            state.invalidated.add(key);
            remove(key);
        }
    }

    /// Takes all flights away from their loads; `clear` drops everything from the cache.
    pub(super) fn forget_all(&self, clear: impl FnOnce()) {
        let mut state = self.0.lock();
        state.by_key.clear();
        state.invalidated = Invalidated::All;
        clear();
    }

    /// Begins to note what is invalidated, before a page of a preload is asked for. One preload at a time.
    pub(super) fn begin_page(&self) {
        self.0.lock().invalidated = Invalidated::Keys(HashSet::default());
    }

    /// Hands the rows of a page to `insert`, without those that were invalidated since the page was begun.
    pub(super) fn end_page<V>(&self, rows: impl Iterator<Item = (String, V)>, mut insert: impl FnMut(String, V)) {
        let mut state = self.0.lock();
        let invalidated = std::mem::take(&mut state.invalidated);
        for (key, value) in rows.filter(|(key, _)| !invalidated.contains(key)) {
            insert(key, value);
        }
    }
}

impl State {
    fn depart(&mut self) -> Departure {
        let number = self.next_number;
        self.next_number += 1;
        Departure {
            number,
            keys: Vec::new(),
            landed: watch::Sender::new(None),
        }
    }
}

impl Invalidated {
    fn add(&mut self, key: &str) {
        if let Self::Keys(keys) = self {
            keys.insert(key.into());
            if keys.len() > MOST_INVALIDATED {
                *self = Self::All;
            }
        }
    }

    fn contains(&self, key: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Keys(keys) => keys.contains(key),
            Self::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(departure: &Departure) -> Result<Loaded, Error> {
        Ok(Arc::new(
            departure
                .keys
                .iter()
                .map(|key| (key.clone(), Some("F".into())))
                .collect(),
        ))
    }

    fn land(flights: &Flights, departure: &Departure) -> Vec<String> {
        let mut cached = Vec::new();
        flights.land(departure, loaded(departure), |key, _| cached.push(key.to_string()));
        cached
    }

    #[test]
    fn keys_that_are_being_loaded_are_waited_for_and_not_loaded_again() {
        let flights = Flights::default();
        let first = flights.board(["a", "b"], 10, |_| false);
        let second = flights.board(["b", "c", "a"], 10, |_| false);

        assert_eq!(first.departures.len(), 1);
        assert_eq!(second.departures.len(), 1);
        assert_eq!(
            second.departures[0].keys.iter().map(|key| &**key).collect::<Vec<_>>(),
            ["c"]
        );
        assert_eq!(second.landings.len(), 2);
    }

    #[test]
    fn a_load_carries_a_bounded_number_of_keys() {
        let flights = Flights::default();
        let names: Vec<String> = (0..25).map(|number| number.to_string()).collect();

        let boarding = flights.board(names.iter().map(String::as_str), 10, |key| key == "3");

        let sizes: Vec<_> = boarding
            .departures
            .iter()
            .map(|departure| departure.keys.len())
            .collect();
        assert_eq!(sizes, [10, 10, 4]);
        assert_eq!(boarding.landings.len(), 3);
    }

    #[test]
    fn a_load_does_not_cache_what_was_invalidated_after_it_began() {
        let flights = Flights::default();
        let stale = flights.board(["a", "b"], 10, |_| false).departures.remove(0);
        flights.forget(["a"], |_| {});
        let fresh = flights.board(["a"], 10, |_| false).departures.remove(0);

        assert_eq!(land(&flights, &stale), ["b"]);
        assert_eq!(land(&flights, &fresh), ["a"]);
    }

    #[test]
    fn a_page_does_not_cache_what_was_invalidated_while_it_was_read() {
        let rows = || ["a", "b", "c"].into_iter().map(|key| (key.to_owned(), ()));
        let flights = Flights::default();
        let mut cached = Vec::new();
        flights.begin_page();
        flights.forget(["b"], |_| {});
        flights.end_page(rows(), |key, ()| cached.push(key));
        assert_eq!(cached, ["a", "c"]);

        flights.begin_page();
        flights.forget_all(|| {});
        flights.end_page(rows(), |key, ()| panic!("{key} was cached"));
    }
}
