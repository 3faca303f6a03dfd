//! PauseIngest and ResumeIngest.

use reprise_proto::v1::resume_ingest_request::Target;
use reprise_proto::v1::resume_partition::From as Wire;
use reprise_proto::v1::*;
use reprise_shared::catalog;
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};

use super::super::away_advising;
use super::super::changes::Changes;
use super::super::error::{Error, ErrorReason};
use super::super::fields::Fields;
use super::super::names;
use super::convert;
use crate::ingest::{self, Asked, From, Ingest};
use crate::kafka;
use crate::requests::RequestKey;

/// A reason has at most so many characters.
const LONGEST_REASON: usize = 500;

/// Stops a data type.
pub(super) async fn pause(
    ingest: &Ingest,
    changes: &Changes,
    principal: String,
    request: PauseIngestRequest,
) -> Result<PauseIngestResponse, Error> {
    let mut fields = Fields::new();
    let data_type = data_type(&mut fields, ingest, &request.data_type).cloned();
    reason(&mut fields, &request.reason);
    fields.request_id(&request.request_id);
    fields.finish()?;
    let data_type = data_type.ok_or_else(Error::internal)?;
    let asked = Asked {
        key: RequestKey::new(principal, "FleetService/PauseIngest", &request.request_id, &request),
        reason: request.reason,
        etag: request.etag,
        validate_only: request.validate_only,
    };
    let ingest = ingest.clone();
    let change = async move {
        let made = ingest.pause(data_type, asked, convert::data_type).await;
        made.map_err(answer)
    };
    changes.make(change).await
}

/// Lets a data type or a partition go on.
pub(super) async fn resume(
    ingest: &Ingest,
    changes: &Changes,
    principal: String,
    request: ResumeIngestRequest,
) -> Result<ResumeIngestResponse, Error> {
    let mut fields = Fields::new();
    reason(&mut fields, &request.reason);
    fields.request_id(&request.request_id);
    let what = match &request.target {
        Some(Target::DataType(name)) => What::Type(data_type(&mut fields, ingest, name).cloned().map(Box::new)),
        Some(Target::Partition(asked)) => {
            if !request.etag.is_empty() {
                fields.refuse("etag", "has no meaning for a partition; leave it out");
            }
            if request.trust_key {
                fields.refuse("trust_key", "has no meaning for a partition; leave it out");
            }
            What::Partition(partition(&mut fields, ingest, asked))
        }
        None => {
            fields.refuse("target", "is required: data_type or partition");
            What::Type(None)
        }
    };
    fields.finish()?;
    let asked = Asked {
        key: RequestKey::new(principal, "FleetService/ResumeIngest", &request.request_id, &request),
        reason: request.reason,
        etag: request.etag,
        validate_only: request.validate_only,
    };
    let (ingest, trust_key) = (ingest.clone(), request.trust_key);
    let change = async move {
        let made = match what {
            What::Type(Some(data_type)) => {
                ingest
                    .resume_type(*data_type, trust_key, asked, convert::data_type)
                    .await
            }
            What::Partition(Some((partition, from))) => ingest.resume_partition(partition, from, asked).await,
            What::Type(None) | What::Partition(None) => return Err(Error::internal()),
        };
        made.map_err(answer)
    };
    changes.make(change).await
}

/// What goes on; none where its fields were refused.
enum What {
    Type(Option<Box<catalog::DataType>>),
    Partition(Option<(TopicPartition, From)>),
}

fn data_type<'a>(fields: &mut Fields, ingest: &'a Ingest, name: &str) -> Option<&'a catalog::DataType> {
    let catalog = ingest.catalog();
    let found = catalog.find_data_type(name).map(|index| catalog.data_type(index));
    if found.is_none() {
        fields.refuse("data_type", names::no_data_type(catalog, name));
    }
    found
}

fn reason(fields: &mut Fields, reason: &str) {
    let length = reason.chars().count();
    if !(1..=LONGEST_REASON).contains(&length) {
        fields.refuse(
            "reason",
            format!("has {length} characters; 1 to {LONGEST_REASON} are needed, for those who find it"),
        );
    } else if reason.chars().any(char::is_control) {
        fields.refuse("reason", "holds control characters");
    }
}

fn partition(fields: &mut Fields, ingest: &Ingest, asked: &ResumePartition) -> Option<(TopicPartition, From)> {
    let topic = TopicName::new(&asked.topic);
    if !ingest.catalog().topics.iter().any(|known| known.name == topic) {
        fields.refuse("partition.topic", names::no_topic(ingest.catalog(), &asked.topic));
    }
    let number = u16::try_from(asked.partition);
    let number = fields.take("partition.partition", number.map_err(|_| "is not 0 to 65535"));
    let from = match asked.from {
        Some(Wire::Offset(offset)) => Some(From::Offset(Offset(offset))),
        Some(Wire::AcceptMissing(MissingOffsets { start, end })) => {
            Some(From::AcceptMissing(Offset(start), Offset(end)))
        }
        None => {
            fields.refuse("partition.from", "is required: offset or accept_missing");
            None
        }
    };
    let partition = Partition(number?);
    Some((TopicPartition { topic, partition }, from?))
}

fn answer(error: ingest::Error) -> Error {
    let message = error.to_string();
    match error {
        ingest::Error::RequestIdReused => Error::new(ErrorReason::RequestIdReused, message),
        ingest::Error::EtagMismatch { current } => Error::new(ErrorReason::EtagMismatch, message).with("etag", current),
        ingest::Error::WrongState(_) => Error::new(ErrorReason::WrongState, message),
        ingest::Error::Field { field, problem } => {
            let mut fields = Fields::new();
            fields.refuse(field, problem);
            fields.finish().err().unwrap_or_else(Error::internal)
        }
        ingest::Error::Kafka(kafka::Error::TopicMissing(topic)) => {
            let message = format!("kafka has no topic {topic}; it has to be created, or the catalog names a wrong one");
            Error::new(ErrorReason::NotFound, message).with("topic", topic)
        }
        ingest::Error::Kafka(error) => away_advising("kafka", &error, "nothing was changed. Try again"),
        ingest::Error::Mysql(error) => away_advising("mysql", &error, "try again, with the same request_id"),
    }
}
