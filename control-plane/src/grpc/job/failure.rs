//! What became of a call about jobs that failed, in the words of the API.

use crate::grpc::away;
use crate::grpc::error::{Error, ErrorReason};
use crate::grpc::fields::Fields;
use crate::jobs::{self, watch};
use crate::planner::draft::Missing;
use crate::planner::{self, Refusal};
use crate::{kafka, whitelist};

/// So many missing intervals are named one by one.
const NAMED: usize = 5;

/// Turns a failure into an answer. What a caller cannot put right is told in the log as well.
pub(super) fn answer(error: jobs::Error) -> Error {
    use jobs::Error as Failure;
    let message = error.to_string();
    match error {
        Failure::NoSuchJob(id) => Error::new(ErrorReason::NotFound, message).with("job_id", id),
        Failure::NoSuchPlan => Error::new(ErrorReason::NotFound, message),
        Failure::Outdated(_) => Error::new(ErrorReason::PlanOutdated, message),
        Failure::NeedsAdmin(_) => Error::new(ErrorReason::RoleTooLow, message).with("needed_role", "admin"),
        Failure::RequestIdReused => Error::new(ErrorReason::RequestIdReused, message),
        Failure::EtagMismatch { current } => Error::new(ErrorReason::EtagMismatch, message).with("etag", current),
        Failure::State { current, .. } => Error::new(ErrorReason::WrongState, message).with("state", current.as_str()),
        Failure::Plan(error) => no_plan(error),
        Failure::Mysql(_) => away("mysql", &error),
        Failure::Stored { .. } | Failure::Rehearsed(_) => {
            tracing::error!(error = %reprise_shared::telemetry::chain(&error), "a job could not be read");
            Error::internal()
        }
    }
}

/// Turns the failure of a follower into an answer.
pub(super) fn not_followed(refused: watch::Refused) -> Error {
    let message = refused.to_string();
    match refused {
        watch::Refused::TooMany { .. } => Error::new(ErrorReason::TooManyWatchers, message),
        watch::Refused::Job(error) => answer(error),
    }
}

fn no_plan(error: planner::Error) -> Error {
    use planner::Error as Failure;
    let message = error.to_string();
    match error {
        Failure::Fields(violations) => {
            let mut fields = Fields::new();
            for violation in violations {
                fields.refuse(violation.field, violation.problem);
            }
            fields.finish().err().unwrap_or_else(Error::internal)
        }
        Failure::Refused(refusal) => refused(&refusal),
        Failure::NotAccepted { topic, .. } => Error::new(ErrorReason::WrongState, message).with("topic", topic),
        Failure::Table(_) => Error::new(ErrorReason::WrongState, message),
        Failure::Stopped => {
            tracing::error!("a plan was not made to its end");
            Error::internal()
        }
        Failure::TooMuch { .. } | Failure::TooManyVersions { .. } | Failure::TooLarge { .. } => {
            Error::new(ErrorReason::WrongState, format!("{message}; ask for a part of it"))
        }
        Failure::Kafka(kafka::Error::TopicMissing(topic)) => {
            let message = format!("kafka has no topic {topic}; it has to be created, or the catalog names a wrong one");
            Error::new(ErrorReason::NotFound, message).with("topic", topic)
        }
        Failure::Kafka(error) => away("kafka", &error),
        Failure::Redis(error) => away("redis", &error),
        Failure::Mysql(error) => away("mysql", &error),
        Failure::Whitelist(error @ whitelist::Error::Database(_)) => away("mysql", &error),
        Failure::Whitelist(error) => away("whitelist", &error),
    }
}

fn refused(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::Expired(missing) => expired(missing),
        Refusal::TooManyTasks { .. } => Error::new(
            ErrorReason::WrongState,
            format!("{refusal} (jobs.max_tasks, of jobs.max_slice positions each); ask for less at a time"),
        ),
        Refusal::TooManyIds { .. } => Error::new(
            ErrorReason::WrongState,
            format!("{refusal} (jobs.max_filter_ids); ask for less at a time, or name ids"),
        ),
        Refusal::NotConnected { .. } => Error::new(
            ErrorReason::WrongState,
            format!(
                "{refusal}, and OVERWRITE keeps the order of a partition, so it needs them in one; ask by offsets, one \
                 interval for each partition"
            ),
        ),
    }
}

fn expired(missing: &[Missing]) -> Error {
    let mut named: Vec<String> = missing
        .iter()
        .take(NAMED)
        .map(|one| {
            let data_type = if one.data_type.is_empty() {
                "all types"
            } else {
                &one.data_type
            };
            format!(
                "{data_type} in {}:{} [{}, {})",
                one.topic, one.partition, one.start, one.end
            )
        })
        .collect();
    if missing.len() > NAMED {
        named.push(format!("and {} more", missing.len() - NAMED));
    }
    let message = format!(
        "Kafka has deleted some of what is asked for: {}; ask for what is left, or set allow_partial",
        named.join(", ")
    );
    Error::new(ErrorReason::DataExpired, message).with("intervals", missing.len())
}
