//! What became of a whitelist call that failed, in the words of the API.

use std::time::Duration;

use reprise_shared::telemetry::chain;

use super::super::away_advising;
use super::super::error::{Error, ErrorReason};
use super::super::fields::Fields;
use crate::whitelist;

/// A change takes some milliseconds, so this is worth waiting for.
const AFTER_BUSY: Duration = Duration::from_millis(200);

/// Turns a failure of the store into an answer. What a caller cannot put right is told in the log as well.
pub(super) fn answer(error: whitelist::Error) -> Error {
    use whitelist::Error as Failure;
    let message = error.to_string();
    match &error {
        Failure::Invalid(violations) => {
            let mut fields = Fields::new();
            for violation in violations {
                fields.refuse(&violation.field, &violation.problem);
            }
            fields.finish().err().unwrap_or_else(Error::internal)
        }
        Failure::WouldBeUnrestricted { entries, .. } => {
            Error::new(ErrorReason::WouldBeUnrestricted, message).with("entry_count", entries)
        }
        Failure::EtagMismatch { current, .. } => Error::new(ErrorReason::EtagMismatch, message).with("etag", current),
        Failure::RequestIdReused(request_id) => {
            Error::new(ErrorReason::RequestIdReused, message).with("request_id", request_id)
        }
        Failure::TooManyEntries { entries, max } => Error::new(ErrorReason::WhitelistTooLarge, message)
            .with("entry_count", entries)
            .with("max_entries", max),
        Failure::Busy => Error::new(ErrorReason::Busy, message).retry_after(AFTER_BUSY),
        Failure::NoSuchVersion(version) => Error::new(ErrorReason::NotFound, message).with("version", version),
        Failure::Failed { change_id, .. } => {
            tracing::warn!(error = %chain(&error), "a whitelist change failed");
            let message = format!(
                "change {change_id} was not made, because Redis does not take it; nothing was changed. Try again \
                 later; ListAuditEvents says why"
            );
            Error::new(ErrorReason::StoreAway, message)
                .with("store", "redis")
                .with("change_id", change_id)
        }
        Failure::Unknown { change_id, .. } => {
            tracing::warn!(error = %chain(&error), "it is not known whether a whitelist change was made");
            let message = format!(
                "it is not known yet whether change {change_id} was made; it is settled within seconds. Ask again with \
                 the same request_id, or see ListWhitelistVersions"
            );
            Error::new(ErrorReason::OutcomeUnknown, message).with("change_id", change_id)
        }
        Failure::CannotHeal(_) | Failure::Redis(_) => {
            away_advising("redis", &error, "nothing was changed. Try again later")
        }
        Failure::Database(_) => away_advising("mysql", &error, "try again later, a change with the same request_id"),
    }
}
