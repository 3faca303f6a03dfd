//! Purges on record: in the audit log as begun and as ended, and among the requests once done.

use reprise_proto::v1::PurgeOffsetRangesResponse;
use reprise_shared::mysql::Database;
use serde_json::json;
use sqlx::mysql::MySqlPool;

use super::{Purge, Purged};
use crate::audit::{self, Event, Outcome};
use crate::offsets::Error;
use crate::requests::{self, Begun};

const TARGET: &str = "offset_ranges";

/// Looks for this very request; `None`: it was not done yet, or has no id.
pub(super) async fn find(pool: &MySqlPool, purge: &Purge) -> Result<Option<Purged>, Error> {
    match requests::find(pool, &purge.request).await? {
        Begun::New => Ok(None),
        Begun::Answered(answer) => Ok(Some(of_answer(answer))),
        Begun::Reused => Err(Error::RequestIdReused),
    }
}

/// Puts a purge on record; one that is done with its answer, for the same request again.
pub(super) async fn write(
    database: &Database,
    purge: &Purge,
    purged: Option<Purged>,
    outcome: Outcome,
    reason: &str,
) -> Result<(), Error> {
    let mut after = json!({
        "data_type": purge.data_type.as_deref().unwrap_or("all"),
        "older_than_ms": u64::try_from(purge.older_than.as_millis()).unwrap_or(u64::MAX),
    });
    if let Some(purged) = purged {
        after["removed"] = purged.removed.into();
        after["scanned"] = purged.scanned.into();
        after["coverage_removed"] = purged.coverage_removed.into();
    }
    let event = Event {
        principal: purge.request.principal.clone(),
        method: purge.request.method.clone(),
        target: TARGET.to_owned(),
        before: json!({}),
        after,
        outcome,
        reason: reason.to_owned(),
        request_id: Some(purge.request.request_id.clone()).filter(|id| !id.is_empty()),
    };
    let answer = purged.filter(|_| outcome == Outcome::Done).map(answer);
    let request = purge.request.clone();
    database
        .tx("purge_offset_ranges", move |connection| {
            let (event, request) = (event.clone(), request.clone());
            Box::pin(async move {
                if let Some(answer) = answer {
                    // Whoever was first with this id meanwhile keeps it.
                    if let Begun::<PurgeOffsetRangesResponse>::New = requests::begin(connection, &request).await? {
                        requests::finish(connection, &request, &answer).await?;
                    }
                }
                audit::record(connection, &event).await
            })
        })
        .await
        .map_err(|error: sqlx::Error| Error::Mysql(error))
}

/// Makes the answer.
pub(crate) fn answer(purged: Purged) -> PurgeOffsetRangesResponse {
    PurgeOffsetRangesResponse {
        removed: purged.removed,
        scanned: purged.scanned,
        coverage_removed: purged.coverage_removed,
    }
}

fn of_answer(answer: PurgeOffsetRangesResponse) -> Purged {
    Purged {
        removed: answer.removed,
        scanned: answer.scanned,
        coverage_removed: answer.coverage_removed,
    }
}
