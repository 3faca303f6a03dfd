//! The one call that changes Redis, and what is certain when its answer is lost.

use std::time::Duration;

use reprise_shared::telemetry::chain;
use reprise_shared::whitelist::{Answer, Change, ChangeId, Content, Expect, Head, Version, WriteError, Writer};
use tokio::time::{Instant, sleep, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is to be done in Redis.
pub(super) enum Call {
    /// One list changes.
    Change {
        change: Change,
        expected: Version,
        new: Version,
    },
    /// All lists are put in place.
    Fill { content: Content, expect: Expect },
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Pushed {
    /// Redis has it.
    Applied,
    /// Redis does not have it and never will: it said so, or it was never asked.
    Refused(String),
    /// Redis does not have it and never will: it holds neither what was expected nor this change.
    Diverged,
    /// Nobody knows.
    Unknown(String),
}

/// Makes the call. When the answer is lost, reads back which change Redis has, and asks again while it has the one
/// before (the same call twice is harmless), until `deadline`. Not cancel-safe: dropped, the outcome is unknown.
pub(super) async fn push(writer: &Writer, call: &Call, deadline: Instant) -> Pushed {
    let mut lost: Option<String> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        match timeout_at(deadline, call.send(writer)).await {
            Ok(Ok(Answer::Applied { .. })) => return Pushed::Applied,
            Ok(Ok(Answer::Conflict { .. } | Answer::Unknown)) => return Pushed::Diverged,
            // After a lost answer a refusal only tells of the second call.
            Ok(Err(error)) if lost.is_none() && error.is_certainly_not_done() => {
                return Pushed::Refused(chain(&error).to_string());
            }
            Ok(Err(error)) => lost = Some(chain(&error).to_string()),
            Err(_) => return Pushed::Unknown(lost.unwrap_or_else(no_answer)),
        }
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Pushed::Unknown(lost.unwrap_or_else(no_answer));
            }
            sleep(pause.min(deadline - now)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match timeout_at(deadline, writer.head()).await {
                Ok(Ok(Some(head))) if head.change_id == *call.change_id() => return Pushed::Applied,
                Ok(Ok(found)) if call.expects(found.as_ref()) => break,
                Ok(Ok(_)) => return Pushed::Diverged,
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

fn no_answer() -> String {
    "Redis did not answer in time".to_owned()
}

impl Call {
    async fn send(&self, writer: &Writer) -> Result<Answer, WriteError> {
        match self {
            Self::Change { change, expected, new } => writer.apply(change, *expected, *new).await,
            Self::Fill { content, expect } => writer.replace(content, *expect).await,
        }
    }

    fn change_id(&self) -> &ChangeId {
        match self {
            Self::Change { change, .. } => &change.id,
            Self::Fill { content, .. } => &content.head.change_id,
        }
    }

    fn expects(&self, found: Option<&Head>) -> bool {
        let expect = match self {
            Self::Change { expected, .. } => Expect::Version(*expected),
            Self::Fill { expect, .. } => *expect,
        };
        match (expect, found) {
            (Expect::Missing | Expect::MissingOr(_), None) => true,
            (Expect::Version(version) | Expect::MissingOr(version), Some(head)) => head.version == version,
            (Expect::Missing, Some(_)) | (Expect::Version(_), None) => false,
        }
    }
}
