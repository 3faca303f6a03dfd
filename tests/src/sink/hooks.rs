//! Hooks that remember what they were told.

use std::sync::Mutex;

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
}
