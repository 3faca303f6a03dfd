//! Hooks that remember what they were told.

use std::sync::Mutex;
use std::time::Duration;

use futures::future::BoxFuture;
use reprise_shared::catalog::{LookupIndex, TypeIndex};
use reprise_worker::lanes::{StopReason, TypeControl};

/// Stops are durable at once; everything is kept for the test to look at.
#[derive(Debug, Default)]
pub struct Hooks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stopped: Vec<(TypeIndex, StopReason, String)>,
    lookups: Vec<(LookupIndex, String)>,
    batches: usize,
    rest: Duration,
    most_rows: Option<usize>,
}

impl Hooks {
    /// What was stopped and why.
    pub fn stopped(&self) -> Vec<(TypeIndex, StopReason, String)> {
        self.state.lock().expect("no test panics with it").stopped.clone()
    }

    /// Which lookup keys were written.
    pub fn lookups(&self) -> Vec<(LookupIndex, String)> {
        self.state.lock().expect("no test panics with it").lookups.clone()
    }

    /// How many batches were written.
    pub fn batches(&self) -> usize {
        self.state.lock().expect("no test panics with it").batches
    }

    /// Lets lanes rest for so long after each batch from now on.
    pub fn rest(&self, time: Duration) {
        self.state.lock().expect("no test panics with it").rest = time;
    }

    /// Lets no transaction have more rows from now on.
    pub fn at_most(&self, rows: usize) {
        self.state.lock().expect("no test panics with it").most_rows = Some(rows);
    }
}

impl TypeControl for Hooks {
    fn is_stopped(&self, data_type: TypeIndex) -> bool {
        self.stopped().iter().any(|(stopped, ..)| *stopped == data_type)
    }

    fn stop<'a>(&'a self, data_type: TypeIndex, reason: StopReason, detail: String) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.state
                .lock()
                .expect("no test panics with it")
                .stopped
                .push((data_type, reason, detail));
        })
    }

    fn lookup_written(&self, lookup: LookupIndex, keys: Vec<String>) {
        let keys = keys.into_iter().map(|key| (lookup, key));
        self.state.lock().expect("no test panics with it").lookups.extend(keys);
    }

    fn most_rows(&self) -> usize {
        let most_rows = self.state.lock().expect("no test panics with it").most_rows;
        most_rows.unwrap_or(usize::MAX)
    }

    fn rest_after(&self, _took: Duration) -> Duration {
        let mut state = self.state.lock().expect("no test panics with it");
        state.batches += 1;
        state.rest
    }
}
