//! What the rest of a worker asks: the snapshot of the moment and how fresh it is.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Snapshot, Version};
use crate::clock::Clock;

/// How the held whitelist relates to the one in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Redis has no version: emptied, or never filled. What is held stays in use; a worker that holds nothing does
    /// not start.
    Unknown,
    /// What is held is what Redis had at the last contact.
    Ok,
    /// Redis does not answer. What is held stays in use.
    Unreachable,
    /// Redis has a lower version than the held one: restored from an older copy. What is held stays in use.
    Regressed,
}

/// What a heartbeat says of the whitelist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The relation to Redis.
    pub status: Status,
    /// The held version; `None` when nothing was ever known.
    pub applied: Option<Version>,
    /// When Redis last confirmed or delivered what is held, by [`Clock::monotonic`].
    pub confirmed_at: Option<Duration>,
}

/// Reads the whitelist; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    snapshot: ArcSwapOption<Snapshot>,
    state: watch::Sender<State>,
    clock: Clock,
}

impl Handle {
    pub(super) fn new(clock: Clock) -> Self {
        let state = State {
            status: Status::Unknown,
            applied: None,
            confirmed_at: None,
        };
        let state = watch::Sender::new(state);
        Self {
            shared: Arc::new(Shared {
                snapshot: ArcSwapOption::empty(),
                state,
                clock,
            }),
        }
    }

    /// Returns the snapshot to judge the next chunk by. `None` means that the whitelist was never known: nothing may
    /// be judged, and never everything let through.
    pub fn current(&self) -> Option<Arc<Snapshot>> {
        self.shared.snapshot.load_full()
    }

    /// Returns status, version and time of the last contact as one moment.
    pub fn state(&self) -> State {
        *self.shared.state.borrow()
    }

    /// Returns how the held whitelist relates to the one in Redis.
    pub fn status(&self) -> Status {
        self.state().status
    }

    /// Returns the held version.
    pub fn applied_version(&self) -> Option<Version> {
        self.state().applied
    }

    /// Returns how long ago Redis last confirmed what is held; `None` when it never did.
    pub fn age(&self) -> Option<Duration> {
        self.state()
            .confirmed_at
            .map(|at| self.shared.clock.monotonic().saturating_sub(at))
    }

    /// Waits until a whitelist is known, and returns it; `None` when `shutdown` comes first. Cancel-safe.
    pub async fn wait_known(&self, shutdown: &CancellationToken) -> Option<Arc<Snapshot>> {
        self.wait_until(shutdown, |state| state.applied.is_some()).await?;
        self.current()
    }

    /// Waits until the state is as wanted, and returns it; `None` when `shutdown` comes first. Cancel-safe.
    pub async fn wait_until(&self, shutdown: &CancellationToken, wanted: impl Fn(&State) -> bool) -> Option<State> {
        let mut states = self.shared.state.subscribe();
        tokio::select! {
            () = shutdown.cancelled() => None,
            // The sender lives in `self`, so waiting cannot fail.
            state = states.wait_for(|state| wanted(state)) => state.ok().map(|state| *state),
        }
    }

    /// Puts a newer snapshot in place (before its version is shown) and the status beside it.
    pub(super) fn publish(&self, snapshot: Option<Arc<Snapshot>>, status: Status) {
        let applied = snapshot.as_ref().map(|snapshot| snapshot.version());
        if snapshot.is_some() {
            self.shared.snapshot.store(snapshot);
        }
        let now = self.shared.clock.monotonic();
        self.shared.state.send_modify(|state| {
            state.status = status;
            state.applied = applied.or(state.applied);
            if status == Status::Ok {
                state.confirmed_at = Some(now);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whitelist::{ChangeId, Content, Head};

    #[tokio::test]
    async fn waiting_ends_with_the_first_snapshot_and_age_counts_from_the_last_good_contact() {
        let clock = Clock::manual(jiff::Timestamp::UNIX_EPOCH);
        let handle = Handle::new(clock.clone());
        let shutdown = CancellationToken::new();
        assert!(handle.current().is_none() && handle.age().is_none());
        let head = Head {
            version: Version(3),
            change_id: ChangeId::new("c"),
        };
        let publish = async {
            handle.publish(None, Status::Unknown);
            handle.publish(Some(Arc::new(Snapshot::new(&[], Content::new(head)))), Status::Ok);
        };
        let (known, ()) = tokio::join!(handle.wait_known(&shutdown), publish);
        assert_eq!(known.map(|snapshot| snapshot.version()), Some(Version(3)));
        clock.advance(Duration::from_secs(7));
        handle.publish(None, Status::Unreachable);
        assert_eq!(
            (handle.age(), handle.status()),
            (Some(Duration::from_secs(7)), Status::Unreachable)
        );
        assert_eq!(handle.applied_version(), Some(Version(3)));
        shutdown.cancel();
        assert_eq!(handle.wait_until(&shutdown, |_| false).await, None);
    }
}
