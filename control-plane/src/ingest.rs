//! Stops data types and lets data types and partitions go on, each change in one transaction with its audit event and
//! its answer.
//!
//! Workers follow by themselves: they read the state of types every few seconds, and the owner of a stopped partition
//! looks whether it may go on.

use std::sync::Arc;

use prost::Message;
use reprise_proto::v1::{DataType, PauseIngestResponse, ResumeIngestResponse};
use reprise_shared::catalog::{self, Catalog};
use reprise_shared::ingest_state::stops::{self, PartitionStop, PartitionStopReason, TypeState};
use reprise_shared::ingest_state::topics;
use reprise_shared::ledger::Interval;
use reprise_shared::position::{Offset, TopicPartition};
use serde_json::{Value, json};
use sqlx::mysql::{MySqlConnection, MySqlPool};

use crate::audit::{self, Event};
use crate::fleet;
use crate::kafka::{self, Kafka};
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

/// Stops and resumes. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    catalog: Arc<Catalog>,
    pool: MySqlPool,
    kafka: Kafka,
}

impl Ingest {
    /// Makes it; nothing is asked yet.
    pub fn new(catalog: Arc<Catalog>, pool: MySqlPool, kafka: Kafka) -> Self {
        Self { catalog, pool, kafka }
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Stops a data type in the whole fleet. `shown` makes its answer.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Mysql`] leaves open whether the change was made.
    pub async fn pause(
        &self,
        data_type: &catalog::DataType,
        asked: Asked,
        shown: impl Fn(&catalog::DataType, Option<TypeState>) -> DataType,
    ) -> Result<PauseIngestResponse, Error> {
        let mut transaction = self.pool.begin().await?;
        if let Some(answer) = earlier(&mut transaction, &asked).await? {
            return Ok(answer);
        }
        let before = stops::lock_type_state(&mut transaction, &data_type.name).await?;
        check_etag(before.as_ref(), &asked)?;
        stops::stop_type(&mut *transaction, &data_type.name, OPERATOR, &asked.reason).await?;
        let after = stops::lock_type_state(&mut transaction, &data_type.name).await?;
        let already_stopped = before.as_ref().is_some_and(|state| state.stopped);
        let states = [type_summary(before.as_ref()), type_summary(after.as_ref())];
        audit::record(&mut transaction, &event(&asked, of_type(data_type), states)).await?;
        let answer = PauseIngestResponse {
            data_type: Some(shown(data_type, after)),
            already_stopped,
        };
        self.end(transaction, &asked, answer).await
    }

    /// Lets a stopped data type go on in the whole fleet, and, with `trust_key`, judges by its Kafka key again.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Mysql`] leaves open whether the change was made.
    pub async fn resume_type(
        &self,
        data_type: &catalog::DataType,
        trust_key: bool,
        asked: Asked,
        shown: impl Fn(&catalog::DataType, Option<TypeState>) -> DataType,
    ) -> Result<ResumeIngestResponse, Error> {
        let mut transaction = self.pool.begin().await?;
        if let Some(answer) = earlier(&mut transaction, &asked).await? {
            return Ok(answer);
        }
        let before = stops::lock_type_state(&mut transaction, &data_type.name).await?;
        check_etag(before.as_ref(), &asked)?;
        let stopped = before.as_ref().is_some_and(|state| state.stopped);
        let distrusted = data_type.in_key && before.as_ref().is_some_and(|state| state.in_key_off);
        if !stopped && !(trust_key && distrusted) {
            let name = &data_type.name;
            let hint = if distrusted {
                "; to judge by its Kafka key again, set trust_key"
            } else {
                ""
            };
            return Err(Error::WrongState(format!("data type {name} is not stopped{hint}")));
        }
        stops::resume_type(&mut transaction, &data_type.name, trust_key).await?;
        let after = stops::lock_type_state(&mut transaction, &data_type.name).await?;
        let states = [type_summary(before.as_ref()), type_summary(after.as_ref())];
        audit::record(&mut transaction, &event(&asked, of_type(data_type), states)).await?;
        let answer = ResumeIngestResponse {
            data_type: Some(shown(data_type, after)),
        };
        self.end(transaction, &asked, answer).await
    }

    /// Lets a stopped partition go on; the worker that has it does so within seconds.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Mysql`] leaves open whether the change was made.
    pub async fn resume_partition(
        &self,
        partition: &TopicPartition,
        from: From,
        asked: Asked,
    ) -> Result<ResumeIngestResponse, Error> {
        let topic = self.kafka.topic(&partition.topic).await?;
        let logs = self
            .kafka
            .logs(&partition.topic, std::slice::from_ref(&partition.partition))
            .await?;
        let log = *logs
            .first()
            .ok_or(kafka::Error::Incomplete("ask for the ends of logs"))?;
        let mut transaction = self.pool.begin().await?;
        if let Some(answer) = earlier(&mut transaction, &asked).await? {
            return Ok(answer);
        }
        let stop = stops::lock_partition_stop(&mut transaction, partition).await?;
        let stop = stop.ok_or_else(|| Error::WrongState(format!("partition {partition} is not stopped")))?;
        let start = start_of(&stop, from, log)?;
        if stop.reason == PartitionStopReason::TopicRecreated {
            topics::accept_incarnation(&mut transaction, &partition.topic, &topic.id, topic.partitions).await?;
        }
        stops::resume_partition(&mut transaction, partition, start).await?;
        let target = format!("partitions/{}/{}", partition.topic, partition.partition.0);
        let before = json!({ "stopped": true, "reason": stop.reason.as_str(), "detail": stop.detail,
            "missing": stop.missing.map(|(from, to)| [from.0, to.0]) });
        let after = json!({ "resume_from": start.0, "topic_id": topic.id.as_str(), "why": asked.reason });
        audit::record(&mut transaction, &event(&asked, target, [before, after])).await?;
        self.end(transaction, &asked, ResumeIngestResponse::default()).await
    }

    async fn end<A: Message>(
        &self,
        mut transaction: sqlx::Transaction<'_, sqlx::MySql>,
        asked: &Asked,
        answer: A,
    ) -> Result<A, Error> {
        if asked.validate_only {
            transaction.rollback().await?;
        } else {
            requests::finish(&mut transaction, &asked.key, &answer).await?;
            transaction.commit().await?;
        }
        Ok(answer)
    }
}

async fn earlier<A: Message + Default>(connection: &mut MySqlConnection, asked: &Asked) -> Result<Option<A>, Error> {
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
