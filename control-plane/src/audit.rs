//! The audit log: who changed what, when, and how it was before and after; and who was refused.
//!
//! [`record`] runs in the transaction of the change that it tells of, so that neither is there without the other.

use std::sync::Arc;

use jiff::Timestamp;
use reprise_shared::mysql::Database;
use serde_json::Value;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{MySql, QueryBuilder, Row};

use crate::times::{self, milliseconds};

const MAX_REASON_CHARACTERS: usize = 1_000;
const MAX_TARGET_CHARACTERS: usize = 255;

/// How a mutation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Done,
    /// It was accepted and could not be made.
    Failed,
    /// Nobody knew when this was written; a later event of the same target tells.
    Unknown,
    /// Calls were refused.
    Denied,
}

impl Outcome {
    /// Returns the stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Denied => "denied",
        }
    }

    fn parse(name: &str) -> Self {
        let all = [Self::Done, Self::Failed, Self::Unknown, Self::Denied];
        let known = all.into_iter().find(|outcome| outcome.as_str() == name);
        known.unwrap_or(Self::Unknown)
    }
}

/// One mutation, or refused calls of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Who asked for it.
    pub principal: String,
    /// The method that was called.
    pub method: String,
    /// What it changed, for example `whitelist/global`; cut at 255 characters.
    pub target: String,
    /// A summary of how it was; keep it small.
    pub before: Value,
    /// A summary of how it is.
    pub after: Value,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where that needs saying; cut at 1,000 characters.
    pub reason: String,
    /// The caller's id of the request.
    pub request_id: Option<String>,
}

/// An event as it is on record.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Ascending in the order of recording.
    pub id: u64,
    /// When it was recorded, by the database's clock.
    pub happened_at: Timestamp,
    /// The event. An outcome of another version of the program is read as [`Outcome::Unknown`].
    pub event: Event,
}

/// Records an event on a connection, within the transaction that is open on it.
pub async fn record(connection: &mut MySqlConnection, event: &Event) -> sqlx::Result<()> {
    sqlx::query(
        "/* audit */ INSERT INTO audit_events (happened_at, principal, method, target, before_state, after_state, \
         outcome, reason, request_id) VALUES (UTC_TIMESTAMP(3), ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&event.principal)
    .bind(&event.method)
    .bind(cut(&event.target, MAX_TARGET_CHARACTERS))
    .bind(event.before.to_string())
    .bind(event.after.to_string())
    .bind(event.outcome.as_str())
    .bind(cut(&event.reason, MAX_REASON_CHARACTERS))
    .bind(&event.request_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records events that tell of no change, all or none of them.
pub async fn record_all(database: &Database, events: Vec<Event>) -> sqlx::Result<()> {
    let events = Arc::new(events);
    let recorded = database.tx("audit_all", move |connection| {
        let events = Arc::clone(&events);
        Box::pin(async move {
            for event in &*events {
                record(connection, event).await?;
            }
            Ok(())
        })
    });
    recorded.await
}

/// Which events are listed; what is left out matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this principal.
    pub principal: Option<String>,
    /// Only of this method.
    pub method: Option<String>,
    /// Only of this target.
    pub target: Option<String>,
    /// Only with this outcome.
    pub outcome: Option<Outcome>,
    /// Only at or after this time.
    pub since: Option<Timestamp>,
    /// Only before this time.
    pub until: Option<Timestamp>,
}

/// Lists events with an id below `before` (all when `None`), the newest first, at most `limit`.
pub async fn list(
    executor: impl sqlx::MySqlExecutor<'_>,
    filter: &Filter,
    before: Option<u64>,
    limit: usize,
) -> sqlx::Result<Vec<Recorded>> {
    let mut query = QueryBuilder::<MySql>::new(concat!(
        "/* audit_list */ SELECT id, ",
        milliseconds!("happened_at"),
        " AS happened_ms, principal, method, target, before_state, after_state, outcome, reason, request_id \
             FROM audit_events WHERE id < "
    ));
    query.push_bind(before.unwrap_or(u64::MAX));
    for (condition, value) in [
        (" AND principal = ", &filter.principal),
        (" AND method = ", &filter.method),
        (" AND target = ", &filter.target),
    ] {
        if let Some(value) = value {
            query.push(condition).push_bind(value);
        }
    }
    if let Some(outcome) = filter.outcome {
        query.push(" AND outcome = ").push_bind(outcome.as_str());
    }
    for (condition, time) in [
        (" AND happened_at >= ", filter.since),
        (" AND happened_at < ", filter.until),
    ] {
        if let Some(time) = time {
            query.push(condition).push_bind(times::text(time));
        }
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(limit as u64);
    let rows = query.build().fetch_all(executor).await?;
    rows.iter().map(recorded).collect()
}

fn recorded(row: &MySqlRow) -> sqlx::Result<Recorded> {
    let json = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Recorded {
        id: row.try_get("id")?,
        happened_at: times::from_milliseconds(row.try_get("happened_ms")?),
        event: Event {
            principal: row.try_get("principal")?,
            method: row.try_get("method")?,
            target: row.try_get("target")?,
            before: json(row.try_get("before_state")?),
            after: json(row.try_get("after_state")?),
            outcome: Outcome::parse(row.try_get("outcome")?),
            reason: row.try_get("reason")?,
            request_id: row.try_get("request_id")?,
        },
    })
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
