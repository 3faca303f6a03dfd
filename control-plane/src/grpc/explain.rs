//! ExplainRecord of OffsetRangeService: what became of a record, or of the records of an id.

use reprise_proto::v1::explain_record_request::Records;
use reprise_proto::v1::*;
use reprise_shared::catalog::{Catalog, TypeIndex};
use reprise_shared::position::{Offset, Partition, TopicName};

use super::away;
use super::error::{Error, ErrorReason, quoted};
use super::fields::{Fields, timestamp};
use super::names;
use crate::explain::{self, Explainer, Explanation, Explanations, Outcome, Window};
use crate::offsets::window::rounded_up;

/// A topic's name has at most so many bytes.
const LONGEST_TOPIC: usize = 249;
/// An id has at most so many bytes.
const LONGEST_ID: usize = 1_024;

/// What is asked for.
#[derive(Debug)]
enum Question {
    Position(TopicName, Partition, Offset),
    Id(TypeIndex, String, Window),
}

/// Answers ExplainRecord.
///
/// # Errors
/// The request is not valid, there is no such record, or a store does not answer.
pub async fn explain(explainer: &Explainer, request: ExplainRecordRequest) -> Result<ExplainRecordResponse, Error> {
    let catalog = explainer.catalog();
    let found = match question(catalog, request)? {
        Question::Position(topic, partition, offset) => {
            let record = explainer.at(&topic, partition, offset).await.map_err(failed)?;
            Explanations {
                records: vec![record],
                truncated: false,
            }
        }
        Question::Id(data_type, id, window) => explainer.of_id(data_type, &id, window).await.map_err(failed)?,
    };
    Ok(ExplainRecordResponse {
        records: found
            .records
            .into_iter()
            .map(|record| explanation(catalog, record))
            .collect(),
        truncated: found.truncated,
    })
}

fn question(catalog: &Catalog, request: ExplainRecordRequest) -> Result<Question, Error> {
    let mut fields = Fields::new();
    let question = match request.records {
        None => {
            fields.refuse("records", "is required: set position, or id");
            None
        }
        Some(Records::Position(asked)) => position(&mut fields, asked),
        Some(Records::Id(asked)) => of_id(&mut fields, catalog, asked),
    };
    fields.finish()?;
    question.ok_or_else(Error::internal)
}

fn position(fields: &mut Fields, asked: RecordPosition) -> Option<Question> {
    fields.require("position.topic", &asked.topic);
    fields.text("position.topic", &asked.topic, LONGEST_TOPIC);
    let partition = u16::try_from(asked.partition).map_err(|_| "is above 65535, the highest number that is taken");
    let partition = fields.take("position.partition", partition);
    let offset = i64::try_from(asked.offset).map_err(|_| "is above 9223372036854775807, the highest of Kafka");
    let offset = fields.take("position.offset", offset);
    let offset = Offset::from_kafka(offset?)?;
    Some(Question::Position(
        TopicName::new(&asked.topic),
        Partition(partition?),
        offset,
    ))
}

fn of_id(fields: &mut Fields, catalog: &Catalog, asked: RecordsOfId) -> Option<Question> {
    let data_type = catalog.find_data_type(&asked.data_type);
    if asked.data_type.is_empty() {
        fields.require("id.data_type", "");
    } else if data_type.is_none() {
        fields.refuse("id.data_type", names::no_data_type(catalog, &asked.data_type));
    }
    fields.require("id.id", &asked.id);
    fields.text("id.id", &asked.id, LONGEST_ID);
    let times = asked.times.unwrap_or_default();
    let mut moment = |field: &str, time: Option<prost_types::Timestamp>| {
        if time.is_none() {
            fields.refuse(field, "is required");
        }
        fields.time(field, time)
    };
    let start = moment("id.times.start_time", times.start_time);
    let end = moment("id.times.end_time", times.end_time);
    if start.zip(end).is_some_and(|(start, end)| end <= start) {
        fields.refuse("id.times.end_time", "has to be later than start_time");
    }
    let window = Window {
        start: rounded_up(start?),
        end: rounded_up(end?),
    };
    Some(Question::Id(data_type?, asked.id, window))
}

fn explanation(catalog: &Catalog, explained: Explanation) -> RecordExplanation {
    let outcome = match explained.outcome {
        Outcome::Filtered => RecordOutcome::Filtered,
        Outcome::Written => RecordOutcome::Written,
        Outcome::Superseded => RecordOutcome::Superseded,
        Outcome::Stale => RecordOutcome::Stale,
        Outcome::Deferred => RecordOutcome::Deferred,
        Outcome::DeadLettered => RecordOutcome::DeadLettered,
        Outcome::Skipped => RecordOutcome::Skipped,
        Outcome::Pending => RecordOutcome::Pending,
        Outcome::Expired => RecordOutcome::Expired,
        Outcome::Missing => RecordOutcome::Missing,
    };
    let data_type = explained.data_type.map(|index| catalog.data_type(index).name.clone());
    RecordExplanation {
        position: Some(RecordPosition {
            topic: explained.at.topic.to_string(),
            partition: explained.at.partition.0.into(),
            offset: explained.offset.0,
        }),
        data_type: data_type.unwrap_or_default(),
        id: explained.id.unwrap_or_default(),
        record_time: explained.time.map(timestamp),
        outcome: outcome.into(),
        whitelist_version: explained.whitelist.map(|version| version.0),
        explanation: explained.words,
        dead_letter_id: explained.letter.map(|letter| letter.to_string()).unwrap_or_default(),
    }
}

/// Turns a failure into an answer, after telling in the log what a store did.
fn failed(error: explain::Error) -> Error {
    use explain::Error as E;
    let not_found = |message: String| Error::new(ErrorReason::NotFound, message);
    match &error {
        E::ForeignTopic(topic) => {
            let topic = quoted(topic.as_str());
            not_found(format!(
                "no data type of the catalog reads topic {topic}; FleetService.ListDataTypes names the topics"
            ))
        }
        E::NoTopic(topic) => not_found(format!(
            "Kafka has no topic {topic}: it was not made yet, or was deleted"
        )),
        E::NoPartition {
            topic,
            partition,
            partitions,
        } => not_found(format!(
            "topic {topic} has {partitions} partitions, counted from 0, and no partition {partition}"
        )),
        E::AboveEnd { at, offset, end } => not_found(format!(
            "topic {} partition {} has no record at offset {offset} yet: its log ends at {end}",
            at.topic, at.partition
        ))
        .with("log_end", end),
        E::NoRecord { at, offset, next } => {
            let next_one = match next {
                Some(next) => format!("the next one is at {next}"),
                None => "there is none up to the log's end".to_owned(),
            };
            let message = format!(
                "topic {} partition {} has no record at offset {offset}: compaction removed it, or a transaction's \
                 marker or an aborted record takes its place; {next_one}",
                at.topic, at.partition
            );
            let error = not_found(message);
            match next {
                Some(next) => error.with("next_offset", next),
                None => error,
            }
        }
        E::TooSlow(_) | E::Kafka(_) => away("kafka", &error),
        E::Redis(_) => away("redis", &error),
        E::Mysql(_) | E::Whitelist(_) | E::Lookup(_) => away("mysql", &error),
        E::Stopping => Error::new(
            ErrorReason::Overloaded,
            "the server is shutting down; try again at another one",
        ),
    }
}
