//! The audit log: who changed what, when, and how it was before and after.
//!
//! [`record`] runs in the transaction of the change that it tells of, so that neither is there without the other.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::Row;
use sqlx::mysql::MySqlConnection;

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
}

impl Outcome {
    /// Returns the stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// One mutation.
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

/// Lists events with an id below `before` (all when `None`), the newest first, at most `limit`.
pub async fn list(
    executor: impl sqlx::MySqlExecutor<'_>,
    before: Option<u64>,
    limit: usize,
) -> sqlx::Result<Vec<Recorded>> {
    let rows = sqlx::query(
        "/* audit_list */ SELECT id, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', happened_at) DIV 1000 AS happened_ms, \
         principal, method, target, before_state, after_state, outcome, reason, request_id FROM audit_events \
         WHERE id < ? ORDER BY id DESC LIMIT ?",
    )
    .bind(before.unwrap_or(u64::MAX))
    .bind(limit as u64)
    .fetch_all(executor)
    .await?;
    let json = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    rows.iter()
        .map(|row| {
            let outcome: String = row.try_get("outcome")?;
            let known = [Outcome::Done, Outcome::Failed];
            Ok(Recorded {
                id: row.try_get("id")?,
                happened_at: Timestamp::from_millisecond(row.try_get("happened_ms")?).unwrap_or(Timestamp::MAX),
                event: Event {
                    principal: row.try_get("principal")?,
                    method: row.try_get("method")?,
                    target: row.try_get("target")?,
                    before: json(row.try_get("before_state")?),
                    after: json(row.try_get("after_state")?),
                    outcome: known
                        .into_iter()
                        .find(|known| known.as_str() == outcome)
                        .unwrap_or(Outcome::Unknown),
                    reason: row.try_get("reason")?,
                    request_id: row.try_get("request_id")?,
                },
            })
        })
        .collect()
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
