//! Purges in the audit log, which also answers the same request again.

use reprise_shared::mysql::Database;
use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::mysql::MySqlPool;

use super::{Purge, Purged};
use crate::audit::{self, Event, Outcome};
use crate::offsets::Error;

const METHOD: &str = "OffsetRangeService/PurgeOffsetRanges";
const TARGET: &str = "offset_ranges";

/// Looks for this very request; `None`: it was not done yet, or has no id.
pub(super) async fn find(pool: &MySqlPool, purge: &Purge) -> Result<Option<Purged>, Error> {
    let Some(request_id) = &purge.request_id else {
        return Ok(None);
    };
    let row = sqlx::query(
        "/* find_purge */ SELECT outcome, after_state FROM audit_events \
         WHERE target = ? AND method = ? AND principal = ? AND request_id = ? ORDER BY id DESC LIMIT 1",
    )
    .bind(TARGET)
    .bind(METHOD)
    .bind(&*purge.principal)
    .bind(request_id)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let state: Value = serde_json::from_str(row.try_get("after_state")?).unwrap_or_default();
    let asked = asked(purge);
    if ["data_type", "older_than_ms"]
        .iter()
        .any(|key| state[key] != asked[key])
    {
        return Err(Error::RequestIdReused);
    }
    let count = |key: &str| state[key].as_u64().unwrap_or(0);
    let done = row.try_get::<&str, _>("outcome")? == Outcome::Done.as_str();
    Ok(done.then(|| Purged {
        removed: count("removed"),
        scanned: count("scanned"),
    }))
}

/// Puts a purge on record.
pub(super) async fn write(
    database: &Database,
    purge: &Purge,
    purged: Option<Purged>,
    outcome: Outcome,
    reason: &str,
) -> Result<(), Error> {
    let mut after = asked(purge);
    if let Some(purged) = purged {
        after["removed"] = purged.removed.into();
        after["scanned"] = purged.scanned.into();
    }
    let event = Event {
        principal: purge.principal.to_string(),
        method: METHOD.to_owned(),
        target: TARGET.to_owned(),
        before: json!({}),
        after,
        outcome,
        reason: reason.to_owned(),
        request_id: purge.request_id.clone(),
    };
    database
        .tx("purge_offset_ranges", move |connection| {
            let event = event.clone();
            Box::pin(async move { audit::record(connection, &event).await })
        })
        .await
        .map_err(|error: sqlx::Error| Error::Mysql(error))
}

fn asked(purge: &Purge) -> Value {
    json!({
        "data_type": purge.data_type.as_deref().unwrap_or("all"),
        "older_than_ms": u64::try_from(purge.older_than.as_millis()).unwrap_or(u64::MAX),
    })
}
