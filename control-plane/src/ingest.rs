//! Stops data types and lets data types and partitions go on, each change in one transaction with its audit event and
//! its answer.
//!
//! Workers follow by themselves: they read the state of types every few seconds, and the owner of a stopped partition
//! looks whether it may go on.

use std::sync::Arc;

use prost::Message;
use reprise_proto::v1::{DataType, PauseIngestResponse, ResumeIngestResponse};
use reprise_shared::catalog::{self, Catalog};
use reprise_shared::clock::Clock;
use reprise_shared::ingest_state::deferred::{self, Owed};
use reprise_shared::ingest_state::stops::{self, PartitionStop, PartitionStopReason, TypeState};
use reprise_shared::ingest_state::topics;
use reprise_shared::ledger::Interval;
use reprise_shared::mysql::{AsDriverError, Database};
use reprise_shared::position::{Offset, TopicPartition};
use serde_json::{Value, json};
use sqlx::mysql::MySqlConnection;

use crate::audit::{self, Event};
use crate::fleet;
use crate::kafka::{self, Kafka, Topic};
use crate::requests::{self, Begun, RequestKey};

/// The reason of a stop that somebody asked for.
const OPERATOR: &str = "OPERATOR";

/// Why a call was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request id was used for another request.
    #[error("request_id was used for another request: use a new one for each request")]
    RequestIdReused,
    /// Somebody changed it since the caller read it.
    #[error("the data type has the etag {current} now: read it again with ListDataTypes and decide anew")]
    EtagMismatch {
        /// What it has.
        current: String,
    },
    /// It is not in a state that allows the call.
    #[error("{0}")]
    WrongState(String),
    /// A field does not fit what is there.
    #[error("{problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Kafka gave no answer.
    #[error("ask kafka")]
    Kafka(#[from] kafka::Error),
    /// MySQL gave no answer. A change under way may have been made; the same request again tells.
    #[error("ask mysql")]
    Mysql(#[from] sqlx::Error),
}

impl AsDriverError for Error {
    fn as_driver_error(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Mysql(error) => Some(error),
            _ => None,
        }
    }
}

/// What all calls say.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who, and which request.
    pub key: RequestKey,
    /// Why.
    pub reason: String,
    /// The etag that the data type must have; empty: any.
    pub etag: String,
    /// Change nothing.
    pub validate_only: bool,
}

/// How a stopped partition goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// From this offset on.
    Offset(Offset),
    /// After this missing interval, which is what the stop names.
    AcceptMissing(Offset, Offset),
}

/// Makes the answer's data type of one, its state, and what is owed of it.
pub type Shown = fn(&catalog::DataType, Option<TypeState>, Vec<Owed>) -> DataType;

/// Stops and resumes. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    catalog: Arc<Catalog>,
    database: Database,
    kafka: Kafka,
    clock: Clock,
}

impl Ingest {
    /// Makes it; nothing is asked yet.
    pub fn new(catalog: Arc<Catalog>, database: Database, kafka: Kafka, clock: Clock) -> Self {
        Self {
            catalog,
            database,
            kafka,
            clock,
        }
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Stops a data type in the whole fleet.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Mysql`] leaves open whether the change was made.
    pub async fn pause(
        &self,
        data_type: catalog::DataType,
        asked: Asked,
        shown: Shown,
    ) -> Result<PauseIngestResponse, Error> {
        let work = Arc::new((data_type, asked, self.clock.clone()));
        let change = self.database.tx("pause_ingest", move |connection| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (data_type, asked, clock) = &*work;
                pause(connection, data_type, asked, clock, shown).await
            })
        });
        change.await
    }

    /// Lets a stopped data type go on in the whole fleet, and, with `trust_key`, judges by its Kafka key again.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Mysql`] leaves open whether the change was made.
    pub async fn resume_type(
        &self,
        data_type: catalog::DataType,
        trust_key: bool,
        asked: Asked,
        shown: Shown,
    ) -> Result<ResumeIngestResponse, Error> {
        let work = Arc::new((data_type, asked));
        let change = self.database.tx("resume_type", move |connection| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (data_type, asked) = &*work;
                resume_type(connection, data_type, trust_key, asked, shown).await
            })
        });
        change.await
    }

    /// Lets a stopped partition go on; the worker that has it does so within seconds.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Mysql`] leaves open whether the change was made.
    pub async fn resume_partition(
        &self,
        partition: TopicPartition,
        from: From,
        asked: Asked,
    ) -> Result<ResumeIngestResponse, Error> {
        let topic = self.kafka.topic(&partition.topic).await?;
        let logs = self.kafka.logs(&partition.topic, &[partition.partition]).await?;
        let log = *logs
            .first()
            .ok_or(kafka::Error::Incomplete("ask for the ends of logs"))?;
        let work = Arc::new((partition, topic, asked));
        let change = self.database.tx("resume_partition", move |connection| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (partition, topic, asked) = &*work;
                resume_partition(connection, partition, from, (topic, log), asked).await
            })
        });
        change.await
    }
}

async fn pause(
    connection: &mut MySqlConnection,
    data_type: &catalog::DataType,
    asked: &Asked,
    clock: &Clock,
    shown: Shown,
) -> Result<PauseIngestResponse, Error> {
    if let Some(answer) = earlier(connection, asked).await? {
        return Ok(answer);
    }
    let before = stops::lock_type_state(connection, &data_type.name).await?;
    check_etag(before.as_ref(), asked)?;
    let already_stopped = before.as_ref().is_some_and(|state| state.stopped);
    let after = if asked.validate_only {
        before.filter(|state| state.stopped).unwrap_or_else(|| TypeState {
            data_type: data_type.name.clone(),
            stopped: true,
            reason: OPERATOR.to_owned(),
            detail: asked.reason.clone(),
            changed_at: clock.now(),
            in_key_off: false,
        })
    } else {
        stops::stop_type(&mut *connection, &data_type.name, OPERATOR, &asked.reason).await?;
        let after = stops::lock_type_state(connection, &data_type.name).await?;
        let states = [type_summary(before.as_ref()), type_summary(after.as_ref())];
        audit::record(connection, &event(asked, of_type(data_type), states)).await?;
        after.ok_or(sqlx::Error::RowNotFound)?
    };
    let owed = deferred::owed_of(&mut *connection, Some(&data_type.name), fleet::MOST_OWED).await?;
    let answer = PauseIngestResponse {
        data_type: Some(shown(data_type, Some(after), owed)),
        already_stopped,
    };
    keep(connection, asked, answer).await
}

async fn resume_type(
    connection: &mut MySqlConnection,
    data_type: &catalog::DataType,
    trust_key: bool,
    asked: &Asked,
    shown: Shown,
) -> Result<ResumeIngestResponse, Error> {
    if let Some(answer) = earlier(connection, asked).await? {
        return Ok(answer);
    }
    let before = stops::lock_type_state(connection, &data_type.name).await?;
    check_etag(before.as_ref(), asked)?;
    let distrusted = data_type.in_key && before.as_ref().is_some_and(|state| state.in_key_off);
    let Some(before) = before.filter(|state| state.stopped || (trust_key && distrusted)) else {
        let name = &data_type.name;
        let hint = if distrusted {
            "to judge by its Kafka key again, set trust_key"
        } else {
            "there is nothing to resume; ListDataTypes shows which are"
        };
        return Err(Error::WrongState(format!("data type {name} is not stopped: {hint}")));
    };
    let after = if asked.validate_only {
        Some(TypeState {
            stopped: false,
            in_key_off: before.in_key_off && !trust_key,
            ..before
        })
    } else {
        stops::resume_type(connection, &data_type.name, trust_key).await?;
        let after = stops::lock_type_state(connection, &data_type.name).await?;
        let states = [type_summary(Some(&before)), type_summary(after.as_ref())];
        audit::record(connection, &event(asked, of_type(data_type), states)).await?;
        after
    };
    let owed = deferred::owed_of(&mut *connection, Some(&data_type.name), fleet::MOST_OWED).await?;
    let answer = ResumeIngestResponse {
        data_type: Some(shown(data_type, after, owed)),
    };
    keep(connection, asked, answer).await
}

async fn resume_partition(
    connection: &mut MySqlConnection,
    partition: &TopicPartition,
    from: From,
    (topic, log): (&Topic, Interval),
    asked: &Asked,
) -> Result<ResumeIngestResponse, Error> {
    if let Some(answer) = earlier(connection, asked).await? {
        return Ok(answer);
    }
    let stop = stops::lock_partition_stop(connection, partition).await?;
    let stop = stop.ok_or_else(|| {
        let hint = "there is nothing to resume; GetLag shows which are";
        Error::WrongState(format!("partition {partition} is not stopped: {hint}"))
    })?;
    let start = start_of(&stop, from, log)?;
    if !asked.validate_only {
        if stop.reason == PartitionStopReason::TopicRecreated {
            topics::accept_incarnation(connection, &partition.topic, &topic.id, topic.partitions).await?;
        }
        stops::resume_partition(connection, partition, start).await?;
        let target = format!("partitions/{}/{}", partition.topic, partition.partition.0);
        let before = json!({ "stopped": true, "reason": stop.reason.as_str(), "detail": stop.detail,
            "missing": stop.missing.map(|(from, to)| [from.0, to.0]) });
        let after = json!({ "resume_from": start.0, "topic_id": topic.id.as_str() });
        audit::record(connection, &event(asked, target, [before, after])).await?;
    }
    keep(connection, asked, ResumeIngestResponse::default()).await
}

/// Keeps the answer for the same request.
async fn keep<A: Message>(connection: &mut MySqlConnection, asked: &Asked, answer: A) -> Result<A, Error> {
    if !asked.validate_only {
        requests::finish(connection, &asked.key, &answer).await?;
    }
    Ok(answer)
}

/// Finds the answer of the same request. A rehearsal is no request.
async fn earlier<A: Message + Default>(connection: &mut MySqlConnection, asked: &Asked) -> Result<Option<A>, Error> {
    if asked.validate_only {
        return Ok(None);
    }
    match requests::begin(connection, &asked.key).await? {
        Begun::New => Ok(None),
        Begun::Answered(answer) => Ok(Some(answer)),
        Begun::Reused => Err(Error::RequestIdReused),
    }
}

fn check_etag(state: Option<&TypeState>, asked: &Asked) -> Result<(), Error> {
    let current = fleet::etag(state);
    if asked.etag.is_empty() || asked.etag == current {
        return Ok(());
    }
    Err(Error::EtagMismatch { current })
}

/// Decides where a stopped partition goes on.
fn start_of(stop: &PartitionStop, from: From, log: Interval) -> Result<Offset, Error> {
    match (from, stop.missing) {
        (From::Offset(offset), _) if offset < log.start || offset > log.end => Err(Error::Field {
            field: "partition.offset",
            problem: format!("is {offset}; the log of the partition is [{}, {})", log.start, log.end),
        }),
        (From::Offset(offset), _) => Ok(offset),
        (From::AcceptMissing(from, to), Some(missing)) if missing == (from, to) => {
            if stop.reason == PartitionStopReason::LogStartAhead {
                return Ok(to);
            }
            Err(Error::WrongState(format!(
                "the partition is stopped because of {}: name the offset that it is to go on from",
                stop.reason.as_str()
            )))
        }
        (From::AcceptMissing(..), Some((from, to))) => Err(Error::Field {
            field: "partition.accept_missing",
            problem: format!("is not what is missing, which is [{from}, {to}); GetLag tells"),
        }),
        (From::AcceptMissing(..), None) => Err(Error::WrongState(format!(
            "what is missing is not known, because of {}: name the offset that it is to go on from",
            stop.reason.as_str()
        ))),
    }
}

fn of_type(data_type: &catalog::DataType) -> String {
    format!("data_types/{}", data_type.name)
}

fn type_summary(state: Option<&TypeState>) -> Value {
    let Some(state) = state else {
        return json!({ "stopped": false });
    };
    json!({ "stopped": state.stopped, "reason": state.reason, "detail": state.detail, "key_distrusted": state.in_key_off })
}

fn event(asked: &Asked, target: String, [before, after]: [Value; 2]) -> Event {
    Event {
        principal: asked.key.principal.clone(),
        method: asked.key.method.clone(),
        target,
        before,
        after,
        outcome: audit::Outcome::Done,
        reason: asked.reason.clone(),
        request_id: Some(asked.key.request_id.clone()).filter(|id| !id.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_a_partition_goes_on_inside_its_log_or_after_exactly_what_is_missing() {
        let log = Interval::new(Offset(10), Offset(20));
        let stop = |reason, missing| PartitionStop::new(reason, "", missing);
        let ahead = stop(PartitionStopReason::LogStartAhead, Some((Offset(4), Offset(10))));
        let behind = stop(PartitionStopReason::LogEndBehind, Some((Offset(20), Offset(25))));
        let recreated = stop(PartitionStopReason::TopicRecreated, None);
        let accept = |from, to| From::AcceptMissing(Offset(from), Offset(to));
        for (stop, from, expected) in [
            (&ahead, From::Offset(Offset(10)), Some(10)),
            (&ahead, From::Offset(Offset(20)), Some(20)),
            (&ahead, From::Offset(Offset(9)), None),
            (&ahead, From::Offset(Offset(21)), None),
            (&ahead, accept(4, 10), Some(10)),
            (&ahead, accept(5, 10), None),
            (&behind, accept(20, 25), None),
            (&behind, From::Offset(Offset(18)), Some(18)),
            (&recreated, accept(0, 10), None),
            (&recreated, From::Offset(Offset(12)), Some(12)),
        ] {
            let found = start_of(stop, from, log).ok().map(|start| start.0);
            assert_eq!(found, expected, "{stop:?} {from:?}");
        }
    }
}
