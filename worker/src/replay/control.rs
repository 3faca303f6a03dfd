//! What lanes ask of a task: a fault that would stop a live type ends the task instead, and its job with it.

use std::sync::OnceLock;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reprise_shared::catalog::{LookupIndex, TypeIndex};
use reprise_shared::jobs::Mode;
use tokio_util::sync::CancellationToken;

use super::signals::LiveFirst;
use crate::lanes::{StopReason, TypeControl};
use crate::lookup_changes::Reporter;

/// Connects lanes with their task.
#[derive(Debug)]
pub(super) struct Control {
    live_first: LiveFirst,
    lookup_changes: Option<Reporter>,
    fault: OnceLock<(StopReason, String)>,
    faulty: CancellationToken,
}

impl Control {
    /// Makes the hooks of a task. Only a job that writes into the type's own table changes lookups.
    pub(super) fn new(mode: Mode, lookup_changes: Reporter, live_first: LiveFirst) -> Self {
        let writes = match mode {
            Mode::Live | Mode::Overwrite | Mode::Repair => true,
            Mode::Isolated | Mode::Verify => false,
        };
        Self {
            live_first,
            lookup_changes: writes.then_some(lookup_changes),
            fault: OnceLock::new(),
            faulty: CancellationToken::new(),
        }
    }

    /// Waits for a fault. Cancel-safe.
    pub(super) async fn fault(&self) -> (StopReason, String) {
        self.faulty.cancelled().await;
        self.fault.get().cloned().unwrap_or((StopReason::Schema, String::new()))
    }
}

impl TypeControl for Control {
    fn is_stopped(&self, _data_type: TypeIndex) -> bool {
        false
    }

    fn stop<'a>(&'a self, _data_type: TypeIndex, reason: StopReason, detail: String) -> BoxFuture<'a, ()> {
        async move {
            // Another lane may have met the same fault.
            let _ = self.fault.set((reason, detail));
            self.faulty.cancel();
            // Nothing of this task completes any more: it is abandoned in a moment.
            std::future::pending::<()>().await;
        }
        .boxed()
    }

    fn lookup_written(&self, lookup: LookupIndex, keys: Vec<String>) {
        if let Some(reporter) = &self.lookup_changes {
            reporter.committed(lookup, keys);
        }
    }

    fn most_rows(&self) -> usize {
        self.live_first.most_rows()
    }

    fn rest_after(&self, took: Duration) -> Duration {
        self.live_first.rest_after(took)
    }
}

#[cfg(test)]
mod tests {
    use super::super::live_first::{Config, Decision, Speed};
    use super::*;

    #[test]
    fn lanes_of_a_task_make_room_as_live_first_decides() {
        let config = Config {
            share: 0.25,
            batch_rows: 7,
            ..Config::default()
        };
        let live_first = LiveFirst::new(&config, Duration::from_secs(1));
        let control = Control {
            live_first: live_first.clone(),
            lookup_changes: None,
            fault: OnceLock::new(),
            faulty: CancellationToken::new(),
        };
        let milliseconds = Duration::from_millis;
        for (rests, rest, rows) in [(true, milliseconds(60), 7), (false, Duration::ZERO, usize::MAX)] {
            live_first.decide(Some(Decision {
                speed: Speed::Full,
                reason: String::new(),
                rests,
            }));
            assert_eq!(
                (control.rest_after(milliseconds(20)), control.most_rows()),
                (rest, rows)
            );
        }
    }
}
