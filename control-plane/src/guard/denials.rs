//! Tells of refused calls without one line for each: those of one caller, method and reason within ten seconds are
//! one line in the log and one event in the audit log. So a flood of refused calls floods neither.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use parking_lot::Mutex;
use reprise_shared::mysql::Database;
use reprise_shared::telemetry::chain;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::auth::Caller;
use super::roles;
use crate::audit::{self, Event, Outcome};
use crate::grpc::error::ErrorReason;
use crate::metrics;
use crate::serve::Peer;

/// MySQL has this long to take the events of one time.
const RECORD_LIMIT: Duration = Duration::from_secs(5);
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

    /// Tells every ten seconds, and once more after the last call. What MySQL does not take is in the log alone.
    /// Cancel-safe but for the last ten seconds.
    pub(super) async fn tell(self, database: Database, last_call: CancellationToken) {
        while last_call.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            self.tell_now(&database).await;
        }
        self.tell_now(&database).await;
    }

    async fn tell_now(&self, database: &Database) {
        let Counts { by_kind, others } = std::mem::take(&mut *self.0.lock());
        let mut events = Vec::with_capacity(by_kind.len() + 1);
        for (Kind { caller, method, reason }, calls) in by_kind {
            tracing::warn!(caller, rpc.method = method, reason, calls, "calls were refused");
            events.push(event(caller, method, reason, calls));
        }
        if others > 0 {
            tracing::warn!(calls = others, "calls of further callers were refused");
            events.push(event("others".to_owned(), "unknown", "", others));
        }
        if events.is_empty() {
            return;
        }
        let recorded = tokio::time::timeout(RECORD_LIMIT, audit::record_all(database, events)).await;
        match recorded {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %chain(&error), "refused calls are not in the audit log"),
            Err(_) => tracing::warn!("refused calls are not in the audit log: MySQL does not answer"),
        }
    }
}

fn event(principal: String, method: &str, reason: &str, calls: u64) -> Event {
    Event {
        principal,
        // As the audit log names methods: without the package.
        method: method.rsplit('.').next().unwrap_or(method).to_owned(),
        target: String::new(),
        before: Value::Null,
        after: json!({ "calls": calls }),
        outcome: Outcome::Denied,
        reason: reason.to_owned(),
        request_id: None,
    }
}
