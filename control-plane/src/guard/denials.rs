//! Tells of refused calls without one line for each: those of one caller, method and reason within ten seconds are
//! one line. So a flood of refused calls floods no log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::auth::Caller;
use super::roles;
use crate::grpc::error::ErrorReason;
use crate::metrics;
use crate::serve::Peer;

/// How often denials are told.
const EVERY: Duration = Duration::from_secs(10);
/// At most so many lines at a time; what does not fit is counted in one more.
const MOST: usize = 1_000;

/// Refused calls that were not told yet. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Denials(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    by_kind: HashMap<Kind, u64>,
    others: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    caller: String,
    method: &'static str,
    reason: &'static str,
}

impl Denials {
    /// Starts with none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a refused call.
    pub(super) fn note(&self, call: &Parts, reason: ErrorReason) {
        metrics::call_refused(reason.reason());
        // Who it is, if that is known, else where it comes from.
        let known = call
            .extensions
            .get::<Caller>()
            .map(|caller| caller.principal.to_string());
        let caller = known.or_else(|| Some(call.extensions.get::<Peer>()?.address.ip().to_string()));
        let kind = Kind {
            caller: caller.unwrap_or_default(),
            method: roles::find(call.uri.path()).map_or("unknown", |(method, _)| method),
            reason: reason.reason(),
        };
        let mut counts = self.0.lock();
        if counts.by_kind.len() >= MOST && !counts.by_kind.contains_key(&kind) {
            counts.others += 1;
        } else {
            *counts.by_kind.entry(kind).or_default() += 1;
        }
    }

    /// Tells every ten seconds, and once more at shutdown. Cancel-safe but for the last ten seconds.
    pub(super) async fn tell(self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            self.tell_now();
        }
        self.tell_now();
    }

    fn tell_now(&self) {
        let Counts { by_kind, others } = std::mem::take(&mut *self.0.lock());
        for (Kind { caller, method, reason }, calls) in by_kind {
            tracing::warn!(caller, rpc.method = method, reason, calls, "calls were refused");
        }
        if others > 0 {
            tracing::warn!(calls = others, "calls of further callers were refused");
        }
    }
}
