//! What becomes of one record, step by step in the pipeline's order.

use std::time::Duration;

use reprise_shared::fault::FaultClass;

use super::convert;
use super::fold::{Row, Rules};
use super::json::{Json, depth};
use super::shape::{ID, SHAPES, Shape, VERSION};
use super::topic::TopicRecord;

/// Larger payloads are dead letters.
const RECORD_LIMIT: usize = 1024 * 1024;
/// More levels are dead letters.
const DEPTH_LIMIT: usize = 64;
/// Versions further ahead are dead letters.
const MAX_AHEAD: Duration = Duration::from_secs(24 * 3600);

/// What becomes of a record.
#[derive(Debug)]
pub(super) enum Outcome {
    Filtered,
    Skipped,
    DeadLettered(FaultClass),
    Processed {
        /// Rows with their keys.
        rows: Vec<(Vec<String>, Row)>,
        /// Faulty rows by their numbers.
        letters: Vec<(u32, FaultClass)>,
    },
}

/// Finds the data type of a record by its header.
pub(super) fn shape_of(record: &TopicRecord<'_>) -> Option<&'static Shape> {
    SHAPES
        .iter()
        .find(|shape| record.data_type == Some(shape.data_type.as_bytes()))
}

/// Judges a record of the data type `shape`; `None`: it matches none.
pub(super) fn judge(record: &TopicRecord<'_>, shape: Option<&Shape>, rules: &Rules<'_>) -> Outcome {
    match (record.payload, shape) {
        (None, _) => Outcome::Skipped,
        (Some(_), None) => Outcome::DeadLettered(FaultClass::Unmatched),
        (Some(payload), Some(shape)) => {
            // The filter comes first and looks at nothing but the key. A key that is no text is on no list, but an
            // empty list lets it through to its fault. Where there is no key, there is nothing to filter by.
            let key = String::from_utf8_lossy(record.key.unwrap_or_default());
            if !key.is_empty() && !(rules.allowed)(&key) {
                return Outcome::Filtered;
            }
            if payload.len() > RECORD_LIMIT {
                return Outcome::DeadLettered(FaultClass::RecordTooLarge);
            }
            decode(record, payload, shape, rules).unwrap_or_else(Outcome::DeadLettered)
        }
    }
}

fn decode(record: &TopicRecord<'_>, payload: &[u8], shape: &Shape, rules: &Rules<'_>) -> Result<Outcome, FaultClass> {
    let text = std::str::from_utf8(payload).map_err(|_| FaultClass::InvalidUtf8)?;
    if depth(text) > DEPTH_LIMIT {
        return Err(FaultClass::TooDeep);
    }
    let json = Json::parse(text).map_err(|_| FaultClass::NotJson)?;
    let Json::Object(_) = json else {
        return Err(FaultClass::WrongType);
    };
    once(&json, ID)?;
    shape.rows.map_or(Ok(()), |rows| once(&json, rows))?;
    let Json::Text(id) = required(&json, ID)? else {
        return Err(FaultClass::WrongType);
    };
    if record.key != Some(id.as_bytes()) {
        return Err(FaultClass::KeyMismatch);
    }
    let code = rules.lookup.get(id).map(String::as_str);
    let (mut rows, mut letters) = (Vec::new(), Vec::new());
    match shape.rows {
        None => rows.push(row(&json, 0, code, record, shape, rules)?),
        Some(member) => {
            let Json::Array(items) = required(&json, member)? else {
                return Err(FaultClass::WrongType);
            };
            for (number, item) in (0..).zip(items) {
                match row(item, number, code, record, shape, rules) {
                    Ok(row) => rows.push(row),
                    Err(class) => letters.push((number, class)),
                }
            }
        }
    }
    if shape.has_lookup() && code.is_none() && !rows.is_empty() {
        return Err(FaultClass::LookupMiss);
    }
    Ok(Outcome::Processed { rows, letters })
}

/// Makes the row of an item, or of a record that is one row. A lookup without an answer leaves an empty value.
fn row(
    item: &Json,
    number: u32,
    code: Option<&str>,
    record: &TopicRecord<'_>,
    shape: &Shape,
    rules: &Rules<'_>,
) -> Result<(Vec<String>, Row), FaultClass> {
    let Json::Object(_) = item else {
        return Err(FaultClass::WrongType);
    };
    for field in shape.columns.iter().filter_map(|column| column.field).chain([VERSION]) {
        once(item, field)?;
    }
    let mut cells = Vec::new();
    for column in shape.columns {
        cells.push(match column.field {
            None => Some(code.unwrap_or_default().to_owned()),
            Some(field) => match required(item, field) {
                Ok(value) => Some(convert::column(column.kind, shape.is_key(column), value)?),
                Err(_) if column.optional => None,
                Err(missing) => return Err(missing),
            },
        });
    }
    let version = convert::version(required(item, VERSION)?)?;
    if version > rules.now.saturating_add(MAX_AHEAD).unwrap_or(jiff::Timestamp::MAX) {
        return Err(FaultClass::VersionAhead);
    }
    let key = shape
        .key_places()
        .map(|place| cells[place].clone().unwrap_or_default())
        .collect();
    let (generation, partition, offset) = (rules.generation.0, record.partition.0, record.offset.0);
    let position = format!("{generation:04X}{partition:04X}{offset:016X}{number:08X}");
    Ok((
        key,
        Row {
            cells,
            version: convert::time_text(version),
            position,
        },
    ))
}

/// Refuses a member that stands twice.
fn once(json: &Json, member: &str) -> Result<(), FaultClass> {
    if json.members(member).count() > 1 {
        Err(FaultClass::DuplicateField)
    } else {
        Ok(())
    }
}

/// Returns a member that is there and not null.
fn required<'a>(json: &'a Json, member: &'a str) -> Result<&'a Json, FaultClass> {
    json.members(member)
        .find(|value| **value != Json::Null)
        .ok_or(FaultClass::MissingField)
}
