//! The last step of a change: what Redis has is written down, with its audit event.

use std::collections::BTreeSet;

use jiff::Timestamp;
use reprise_shared::whitelist::{Head, Scope};
use serde_json::json;
use sqlx::mysql::MySqlConnection;

use super::record::{Effect, Effects, Kind, Record, State};
use super::{entries, head, history};
use crate::audit;

/// Writes entries, head, outcome and audit event of a change that Redis has, and returns the new head. Only under the
/// lock, in its transaction.
pub(super) async fn complete(
    connection: &mut MySqlConnection,
    record: &Record,
    effects: &Effects,
    now: Timestamp,
) -> sqlx::Result<()> {
    write_entries(connection, record, effects, now).await?;
    if let Some(version) = record.version {
        let head = Head {
            version,
            change_id: record.change_id.clone(),
        };
        head::set(connection, &head, now).await?;
    }
    history::settle(connection, &record.change_id, State::Applied, &record.failure).await?;
    audit(connection, record, audit::Outcome::Done, &record.failure).await
}

/// Writes a request that changes nothing for workers: only notes or expiries, or nothing at all.
pub(super) async fn complete_without_version(
    connection: &mut MySqlConnection,
    record: &Record,
    effects: &Effects,
    now: Timestamp,
) -> sqlx::Result<()> {
    history::insert(connection, record, effects).await?;
    write_entries(connection, record, effects, now).await?;
    audit(connection, record, audit::Outcome::Done, "").await
}

/// Records that a change is not made, or that nobody knows yet.
pub(super) async fn give_up(
    connection: &mut MySqlConnection,
    record: &Record,
    state: State,
    reason: &str,
) -> sqlx::Result<()> {
    history::settle(connection, &record.change_id, state, reason).await?;
    let outcome = match state {
        State::Failed => audit::Outcome::Failed,
        State::Intent | State::Unknown => audit::Outcome::Unknown,
        State::Applied => audit::Outcome::Done,
    };
    // A heal is tried again every few seconds under one version: its outcome is an event, its failures are not.
    if record.kind == Kind::Heal {
        return Ok(());
    }
    audit(connection, record, outcome, reason).await
}

async fn write_entries(
    connection: &mut MySqlConnection,
    record: &Record,
    effects: &Effects,
    now: Timestamp,
) -> sqlx::Result<()> {
    let scopes: BTreeSet<&Scope> = effects.0.iter().map(|group| &group.scope).collect();
    for scope in scopes {
        let before = entries::size(&mut *connection, scope).await?;
        let (mut added, mut removed) = (0, 0);
        for group in effects.0.iter().filter(|group| group.scope == *scope) {
            let count = group.ids.len() as u64;
            match group.effect {
                Effect::Added => {
                    entries::put(connection, scope, &group.ids, record).await?;
                    added += count;
                }
                Effect::Refreshed => entries::put(connection, scope, &group.ids, record).await?,
                Effect::Removed => {
                    entries::remove(connection, scope, &group.ids).await?;
                    removed += count;
                }
                Effect::Untouched => {}
            }
        }
        if let Some(version) = record.version {
            let after = (before + added).saturating_sub(removed);
            entries::set_size(connection, scope, after, version, now).await?;
        }
    }
    Ok(())
}

async fn audit(
    connection: &mut MySqlConnection,
    record: &Record,
    outcome: audit::Outcome,
    reason: &str,
) -> sqlx::Result<()> {
    let target = match (&record.scope, record.kind) {
        (_, Kind::Heal | Kind::Import) => "whitelist".to_owned(),
        (Scope::Global, _) => "whitelist/global".to_owned(),
        (Scope::Type(name), _) => format!("whitelist/types/{name}"),
    };
    let version = record.version.unwrap_or(record.base_version);
    let event = audit::Event {
        principal: record.principal.clone(),
        method: record.method.clone(),
        target,
        before: json!({ "version": record.base_version, "entries": record.entries_before }),
        after: match outcome {
            audit::Outcome::Done => json!({
                "change": record.kind.as_str(), "change_id": record.change_id, "version": version,
                "entries": record.entries_after(), "added": record.added, "removed": record.removed,
                "refreshed": record.refreshed, "note": record.note,
            }),
            audit::Outcome::Failed | audit::Outcome::Unknown | audit::Outcome::Denied => {
                json!({ "change": record.kind.as_str(), "change_id": record.change_id })
            }
        },
        outcome,
        reason: reason.to_owned(),
        request_id: record.request_id.clone(),
    };
    audit::record(connection, &event).await
}
