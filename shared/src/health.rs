//! Whether a process is alive and ready, and the small HTTP server that says so.
//!
//! Ready means: every latch is ready. A latch starts unready, so that a service is not ready before each of its parts
//! has said so. Alive is apart from that: an outage of MySQL makes a worker unready, and restarting it would not help.

mod server;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

pub use server::{Endpoints, serve};

/// The reason of a latch that was never ready.
const STARTING: &str = "starting";

/// The process's readiness. A cheap handle: clones share the latches.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Vec<State>>>);

#[derive(Debug)]
struct State {
    name: Arc<str>,
    unready: Option<Arc<str>>,
}

/// One part's say in the process's readiness. Dropping it leaves its last state.
#[derive(Debug)]
pub struct Latch {
    latches: Readiness,
    place: usize,
}

/// Which latches are not ready, each with its reason; none: the process is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The latch's name and the reason, in the order the latches were made.
    pub unready: Vec<(Arc<str>, Arc<str>)>,
}

impl Readiness {
    /// Makes a readiness without latches, which is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a latch, which starts unready. A process has a fixed, small number of them: they are never removed.
    pub fn latch(&self, name: impl Into<Arc<str>>) -> Latch {
        let mut latches = self.0.lock();
        latches.push(State {
            name: name.into(),
            unready: Some(STARTING.into()),
        });
        Latch {
            latches: self.clone(),
            place: latches.len() - 1,
        }
    }

    /// Returns the state of all latches at one moment.
    pub fn status(&self) -> Status {
        let latches = self.0.lock();
        let unready = latches
            .iter()
            .filter_map(|latch| Some((latch.name.clone(), latch.unready.clone()?)))
            .collect();
        Status { unready }
    }
}

impl Latch {
    /// Says that this part is ready.
    pub fn ready(&self) {
        self.latches.0.lock()[self.place].unready = None;
    }

    /// Says that this part is not ready, and why, for a person.
    pub fn unready(&self, reason: impl Into<Arc<str>>) {
        self.latches.0.lock()[self.place].unready = Some(reason.into());
    }
}

impl Status {
    /// Returns whether every latch is ready.
    pub fn is_ready(&self) -> bool {
        self.unready.is_empty()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ready() {
            return formatter.write_str("ready\n");
        }
        formatter.write_str("not ready\n")?;
        for (name, reason) in &self.unready {
            writeln!(formatter, "{name}: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_once_every_latch_is() {
        let readiness = Readiness::new();
        let assigned = readiness.latch("kafka assigned");
        let whitelist = readiness.latch("whitelist loaded");
        assert_eq!(
            readiness.status().to_string(),
            "not ready\nkafka assigned: starting\nwhitelist loaded: starting\n"
        );

        assigned.ready();
        whitelist.ready();
        assert!(readiness.status().is_ready());

        assigned.unready("partition 3 made no progress for 60 s");
        assert_eq!(
            readiness.clone().status().to_string(),
            "not ready\nkafka assigned: partition 3 made no progress for 60 s\n"
        );
    }

    #[test]
    fn a_dropped_latch_keeps_its_say() {
        let readiness = Readiness::new();
        drop(readiness.latch("poll thread"));

        assert!(!readiness.status().is_ready());
    }
}
