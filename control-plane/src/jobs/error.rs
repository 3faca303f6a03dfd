//! Why a call about a job was refused or failed.

use reprise_proto::v1;
use reprise_shared::jobs::{Event, JobId, JobState};
use reprise_shared::mysql::AsDriverError;

use crate::planner;

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such job.
    #[error("there is no job {0}; ListJobs lists them, and finished ones are removed after a while")]
    NoSuchJob(JobId),
    /// There is no such plan.
    #[error("there is no such plan: it expired, or a job was made of it; plan again")]
    NoSuchPlan,
    /// The plan does not hold any more.
    #[error("{0}; plan again")]
    Outdated(String),
    /// The caller's role is too low for this job.
    #[error("this job needs the role admin: {}", .0.join("; "))]
    NeedsAdmin(Vec<String>),
    /// The request id was used for another request.
    #[error("request_id was used for another request: use a new one for each request")]
    RequestIdReused,
    /// Somebody changed it since the caller read it.
    #[error("the job has the etag {current} now: read it again with GetJob and decide anew")]
    EtagMismatch {
        /// What it has.
        current: String,
    },
    /// Its state does not allow the call.
    #[error("job {id} is {}: {}", current.as_str(), allowed(*event))]
    State {
        /// The job.
        id: JobId,
        /// Its state.
        current: JobState,
        /// What was asked; `None`: an update.
        event: Option<Event>,
    },
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] planner::Error),
    /// MySQL gave no answer. A change under way may have been made; the same request again tells.
    #[error("ask mysql")]
    Mysql(#[from] sqlx::Error),
    /// What is stored cannot be read: another version of the program wrote it.
    #[error("read what is stored of {what}")]
    Stored {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Not a failure: how the job would be, of a change that is rolled back.
    #[error("rehearsed")]
    Rehearsed(Box<v1::Job>),
}

impl AsDriverError for Error {
    fn as_driver_error(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Mysql(error) => Some(error),
            _ => None,
        }
    }
}

/// Says which states allow what was asked.
fn allowed(event: Option<Event>) -> String {
    let Some(event) = event else {
        return "a job that has ended cannot be changed".to_owned();
    };
    let verb = match event {
        Event::Pause => "paused",
        Event::Resume => "resumed",
        Event::Cancel => "cancelled",
        Event::Retry => "tried again",
        Event::Claimed | Event::LetGo | Event::Done | Event::DonePartly | Event::Fail => "moved",
    };
    let states = JobState::ALL.iter().filter(|state| state.after(event).is_some());
    let states: Vec<&str> = states.map(|state| state.as_str()).collect();
    format!("only a job that is {} can be {verb}", states.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_state_and_those_that_would_do() {
        let error = Error::State {
            id: JobId::random(),
            current: JobState::Succeeded,
            event: Some(Event::Resume),
        };
        let told = error.to_string();
        assert!(
            told.ends_with("is SUCCEEDED: only a job that is PAUSING or PAUSED can be resumed"),
            "{told}"
        );
    }
}
