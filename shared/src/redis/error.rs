//! Why a call to Redis failed, and whether waiting helps.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL or TLS settings cannot be used.
    #[error("the Redis settings cannot be used")]
    Settings {
        /// What the client library says of them.
        #[source]
        source: RedisError,
    },
    /// The pool cannot be built.
    #[error("the Redis pool cannot be built")]
    Pool(#[from] deadpool_redis::BuildError),
    /// No connection could be had.
    #[error("could not {call}: no connection to Redis")]
    Connect {
        /// What was to be done.
        call: &'static str,
        /// Why not.
        #[source]
        source: Box<deadpool_redis::PoolError>,
    },
    /// The call did not end in time. Whether Redis did it is unknown.
    #[error("could not {call}: no answer from Redis within {limit:?}")]
    TimedOut {
        /// What was to be done.
        call: &'static str,
        /// The limit that passed.
        limit: Duration,
    },
    /// Redis answered with an error, or the connection broke.
    #[error("could not {call}")]
    Call {
        /// What was to be done.
        call: &'static str,
        /// The answer.
        #[source]
        source: RedisError,
    },
    /// Redis answered something that makes no sense.
    #[error("could not {call}: unexpected answer: {message}")]
    Answer {
        /// What was to be done.
        call: &'static str,
        /// What is wrong with the answer.
        message: String,
    },
}

impl Error {
    /// Tells whether Redis is away, slow, full, loading, failing over or read-only, so that the same call may
    /// succeed later without anybody changing anything here.
    ///
    /// False for refused credentials, missing permissions and wrong types: a person has to act. I4 holds for those
    /// just the same, nothing may be dropped because of them; they deserve another alarm.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Settings { .. } | Self::Pool(_) | Self::Answer { .. } => false,
            Self::Connect { source, .. } => match source.as_ref() {
                deadpool_redis::PoolError::Timeout(_) => true,
                deadpool_redis::PoolError::Backend(source) => answer_is_outage(source),
                deadpool_redis::PoolError::Closed
                | deadpool_redis::PoolError::NoRuntimeSpecified
                | deadpool_redis::PoolError::PostCreateHook(_) => false,
            },
            Self::Call { source, .. } => answer_is_outage(source),
        }
    }

    /// Tells whether Redis certainly has not done the call: it was never sent, or Redis refused it. False when the
    /// answer was lost, or makes no sense.
    pub fn is_certainly_not_done(&self) -> bool {
        match self {
            Self::Settings { .. } | Self::Pool(_) | Self::Connect { .. } => true,
            Self::TimedOut { .. } | Self::Answer { .. } => false,
            Self::Call { source, .. } => matches!(
                source.kind(),
                ErrorKind::Server(_)
                    | ErrorKind::Extension
                    | ErrorKind::Client
                    | ErrorKind::InvalidClientConfig
                    | ErrorKind::AuthenticationFailed
            ),
        }
    }

    /// Tells whether the server does not know the script that was called by its hash.
    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
    }
}

/// Judges an answer by its kind, and by its code where the library has no kind for it.
fn answer_is_outage(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::MasterNameNotFoundBySentinel | ErrorKind::NoValidReplicasFoundBySentinel => true,
        ErrorKind::ClusterConnectionNotFound => true,
        ErrorKind::Server(kind) => {
            matches!(
                kind,
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask
            ) || says_full(error)
        }
        _ => says_full(error),
    }
}

/// Codes of a server that will not write for now: out of memory, failing to save, too few replicas, a script that
/// holds it up. Errors that a script met carry the code in their text on older servers.
fn says_full(error: &RedisError) -> bool {
    const CODES: [&str; 5] = ["OOM", "MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED"];
    let code = error.code().unwrap_or_default();
    CODES.contains(&code)
        || error
            .detail()
            .is_some_and(|detail| CODES.iter().any(|code| has_word(detail, code)))
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|character: char| !character.is_ascii_alphanumeric())
        .any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(source: RedisError) -> Error {
        Error::Call { call: "try", source }
    }

    fn parsed(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("an error line");
        value.extract_error().expect_err("an error value")
    }

    #[test]
    fn a_server_that_is_away_slow_full_or_read_only_is_an_outage() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(answered(RedisError::from(broken)).is_outage());
        assert!(
            Error::TimedOut {
                call: "try",
                limit: Duration::from_secs(1)
            }
            .is_outage()
        );
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Redis is configured to save RDB snapshots",
            "READONLY You can't write against a read only replica.",
            "NOREPLICAS Not enough good replicas to write.",
            "BUSY Redis is busy running a script.",
            "CLUSTERDOWN The cluster is down",
            "MASTERDOWN Link with MASTER is down",
            "ERR Error running script: -OOM command not allowed when used memory > 'maxmemory'.",
        ] {
            assert!(answered(parsed(line)).is_outage(), "{line}");
        }
    }

    #[test]
    fn a_refusal_is_certain_and_a_lost_answer_is_not() {
        for line in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "READONLY You can't write against a read only replica.",
            "ERR Error running script",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
        ] {
            assert!(answered(parsed(line)).is_certainly_not_done(), "{line}");
        }
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(!answered(RedisError::from(broken)).is_certainly_not_done());
        let limit = Duration::from_secs(1);
        assert!(!Error::TimedOut { call: "try", limit }.is_certainly_not_done());
    }

    #[test]
    fn what_a_person_must_mend_is_no_outage() {
        for line in [
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "NOPERM this user has no permissions to run the 'publish' command",
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "ERR unknown command",
        ] {
            assert!(!answered(parsed(line)).is_outage(), "{line}");
        }
        assert!(answered(parsed("NOSCRIPT No matching script.")).is_unknown_script());
    }
}
