//! The one place where a call's failure becomes a `tonic::Status`.
//!
//! A failure carries `google.rpc.ErrorInfo` (reason, domain, metadata) and, where fields are wrong, `BadRequest` with
//! all of them. Its message alone says what to do. What went wrong inside is logged where it happened and is never
//! part of an answer.

use std::collections::HashMap;
use std::time::Duration;

pub use reprise_proto::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The domain of every reason.
pub const DOMAIN: &str = "reprise";
/// A message is cut here. It travels in a header, and some clients take 8 KiB of headers and no more.
const LONGEST_MESSAGE: usize = 1_000;

/// Why a call is refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    violations: Vec<FieldViolation>,
    retry_after: Option<Duration>,
}

impl Error {
    /// Makes a failure. The message is for people: what is wrong and what to do, without inner details.
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            violations: Vec::new(),
            retry_after: None,
        }
    }

    /// Makes the failure of a call that this version does not have yet.
    pub fn not_implemented(method: &str) -> Self {
        let message = format!("{method} is not part of this version of the server yet");
        Self::new(ErrorReason::NotImplemented, message).with("method", method)
    }

    /// Makes the failure of a call that met a fault of ours, after the fault was logged.
    pub fn internal() -> Self {
        let message = "the server met a fault of its own, which is in its log; try again, and report it if it stays";
        Self::new(ErrorReason::Internal, message)
    }

    /// Adds a pair that programs can read.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Says when trying again is worth it.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    pub(super) fn with_violations(mut self, violations: Vec<FieldViolation>) -> Self {
        self.violations = violations;
        self
    }

    /// Returns why.
    pub fn reason(&self) -> ErrorReason {
        self.reason
    }

    /// Returns the gRPC code of the reason.
    pub fn code(&self) -> Code {
        code(self.reason)
    }
}

/// The whole table of reasons and codes.
fn code(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::InvalidFields | ErrorReason::RequestIdReused => Code::InvalidArgument,
        ErrorReason::NotFound => Code::NotFound,
        ErrorReason::EtagMismatch | ErrorReason::PlanOutdated => Code::Aborted,
        ErrorReason::WouldBeUnrestricted | ErrorReason::WrongState | ErrorReason::DataExpired => {
            Code::FailedPrecondition
        }
        ErrorReason::CredentialsRefused => Code::Unauthenticated,
        ErrorReason::RoleTooLow | ErrorReason::AddressDenied => Code::PermissionDenied,
        ErrorReason::RateLimited
        | ErrorReason::MessageTooLarge
        | ErrorReason::WhitelistTooLarge
        | ErrorReason::TooManyWatchers => Code::ResourceExhausted,
        ErrorReason::Overloaded | ErrorReason::StoreAway | ErrorReason::OutcomeUnknown | ErrorReason::Busy => {
            Code::Unavailable
        }
        ErrorReason::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorReason::NotImplemented => Code::Unimplemented,
        ErrorReason::Internal | ErrorReason::Unspecified => Code::Internal,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.code();
        let mut details = ErrorDetails::with_error_info(error.reason.reason(), DOMAIN, error.metadata);
        if !error.violations.is_empty() {
            details.set_bad_request(error.violations);
        }
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        let message: String = error.message.chars().take(LONGEST_MESSAGE).collect();
        Self::with_error_details(code, message, details)
    }
}

/// Returns text of a caller as it may stand in a message: quoted, without control characters, and not long.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_code_and_a_name_that_programs_can_read() {
        for number in 1.. {
            let Ok(reason) = ErrorReason::try_from(number) else {
                assert!(number > 10, "the reasons are counted without gaps");
                return;
            };
            let status = Status::from(Error::new(reason, "do this").with("key", "value"));
            let details = status.get_error_details();
            let info = details.error_info().expect("every failure says its reason");
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                (reason.reason(), "reprise")
            );
            assert_eq!(info.metadata["key"], "value");
            assert_ne!(status.code(), Code::Ok);
            assert!(
                info.reason
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            );
        }
    }

    #[test]
    fn what_a_caller_sent_is_shown_short_and_without_control_characters() {
        assert_eq!(quoted("a\n\u{1b}[31m"), r#""a\n\u{1b}[31m""#);
        assert!(quoted(&"x".repeat(10_000)).len() < 80);
    }
}
