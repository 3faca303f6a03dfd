//! Why a call was refused, and what is certain about the whitelist then.

use reprise_shared::mysql::AsDriverError;
use reprise_shared::redis;
use reprise_shared::whitelist::{ChangeId, Scope, Version};

/// One fault of a request, with the field that it lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, named as in the `.proto`, for example `ids[3]`.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Why a call failed. Except for [`Error::Unknown`] it changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request makes no sense; all its faults at once.
    #[error("the request has {count} fault(s); the first: {first}", count = .0.len(), first = first(.0))]
    Invalid(Vec<Violation>),
    /// The list would be empty, and let everything through.
    #[error(
        "{list} would be empty, and so no longer restrict anything ({entries} entries now); \
         if that is meant, set allow_unrestricted",
        list = name(.scope)
    )]
    WouldBeUnrestricted {
        /// The list.
        scope: Scope,
        /// How many entries it has.
        entries: u64,
    },
    /// Somebody changed the whitelist since the caller read it.
    #[error("the whitelist has version {current} now, not {expected}: read it again and decide anew")]
    EtagMismatch {
        /// What the caller saw.
        expected: Version,
        /// What it is.
        current: Version,
    },
    /// The request id was used for another request.
    #[error("request_id {0} was used for another request: use a new one for each request")]
    RequestIdReused(String),
    /// All lists together would be too large.
    #[error("all lists together would have {entries} entries; at most {max} are possible (whitelist.max_entries)")]
    TooManyEntries {
        /// How many there would be.
        entries: u64,
        /// How many are possible.
        max: usize,
    },
    /// Another change holds the whitelist for too long.
    #[error("another change of the whitelist is under way; try again")]
    Busy,
    /// The copy in Redis could not be changed, for certain. The change is on record as failed; the request id may be
    /// used again for the same request.
    #[error("change {change_id} was not made, because Redis would not take it ({reason}); try again later")]
    Failed {
        /// The change.
        change_id: ChangeId,
        /// Why.
        reason: String,
    },
    /// Nobody knows yet whether the change was made. The reconciler settles it; asking again with the same request id
    /// tells, and never makes it twice.
    #[error("it is not known yet whether change {change_id} was made ({reason}); ask again with the same request_id")]
    Unknown {
        /// The change.
        change_id: ChangeId,
        /// What happened.
        reason: String,
    },
    /// Redis could not be brought to what MySQL holds.
    #[error("Redis could not be brought to what MySQL holds ({0})")]
    CannotHeal(String),
    /// There is no such version on record.
    #[error("there is no version {0} of the whitelist on record")]
    NoSuchVersion(Version),
    /// Redis could not be asked.
    #[error("Redis could not be asked")]
    Redis(#[source] redis::Error),
    /// MySQL could not be asked. A change under way is settled by the reconciler, as after [`Error::Unknown`].
    #[error("MySQL could not be asked")]
    Database(#[from] sqlx::Error),
}

impl Error {
    /// Returns a stable name for machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_WHITELIST_REQUEST",
            Self::WouldBeUnrestricted { .. } => "WHITELIST_WOULD_BE_UNRESTRICTED",
            Self::EtagMismatch { .. } => "WHITELIST_CHANGED",
            Self::RequestIdReused(_) => "REQUEST_ID_REUSED",
            Self::TooManyEntries { .. } => "WHITELIST_TOO_LARGE",
            Self::Busy => "WHITELIST_BUSY",
            Self::Failed { .. } => "WHITELIST_CHANGE_FAILED",
            Self::Unknown { .. } => "WHITELIST_CHANGE_UNKNOWN",
            Self::CannotHeal(_) => "WHITELIST_NOT_IN_SYNC",
            Self::NoSuchVersion(_) => "NO_SUCH_WHITELIST_VERSION",
            Self::Redis(_) => "REDIS_UNAVAILABLE",
            Self::Database(_) => "MYSQL_UNAVAILABLE",
        }
    }

    /// Tells whether the whitelist is certainly as it was before the call.
    pub fn is_certainly_unchanged(&self) -> bool {
        !matches!(self, Self::Unknown { .. } | Self::Database(_))
    }
}

impl AsDriverError for Error {
    fn as_driver_error(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Database(error) => Some(error),
            _ => None,
        }
    }
}

fn first(violations: &[Violation]) -> String {
    violations
        .first()
        .map(|violation| format!("{} {}", violation.field, violation.problem))
        .unwrap_or_default()
}

/// Names a list, for a person.
pub(super) fn name(scope: &Scope) -> String {
    match scope {
        Scope::Global => "the global whitelist".to_owned(),
        Scope::Type(data_type) => format!("the whitelist of {data_type}"),
    }
}
