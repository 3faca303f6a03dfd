//! What a VERIFY says of a row that is not stored as it should be (pure).

use reprise_shared::jobs::{Mismatch, MismatchKind};
use reprise_shared::row::Row;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::compare::{Standing, Stored, plain};
use super::task::TaskSink;

/// Longer values are cut in reports.
const MAX_VALUE_CHARACTERS: usize = 200;

/// Describes a row that is missing, different or older; `None`: it is as it should be, or a newer one is stored.
pub(super) fn of(sink: &TaskSink, row: &Row, standing: Standing, stored: Option<&Stored>) -> Option<Mismatch> {
    let kind = match standing {
        Standing::Absent => MismatchKind::Missing,
        Standing::Different => MismatchKind::Different,
        Standing::Older => MismatchKind::Older,
        Standing::Same | Standing::Newer => return None,
    };
    let columns = sink.stored.columns();
    let values: Vec<Option<String>> = row
        .cells
        .iter()
        .zip(columns.types())
        .map(|(cell, column_type)| plain(cell, *column_type).map(std::borrow::Cow::into_owned))
        .collect();
    let key: Map<String, Value> = columns
        .key()
        .iter()
        .map(|place| (sink.names[*place].clone(), excerpt(values[*place].as_deref())))
        .collect();
    let differences: Map<String, Value> = stored
        .into_iter()
        .flat_map(|stored| columns.differences(row, stored).map(move |place| (place, stored)))
        .map(|(place, stored)| {
            let (expected, found) = (values[place].as_deref(), stored.cells[place].as_deref());
            let both = json!({ "expected": excerpt(expected), "stored": excerpt(found) });
            (sink.names[place].clone(), both)
        })
        .collect();
    Some(Mismatch {
        data_type: sink.data_type.clone(),
        key_digest: Sha256::digest(&row.key).into(),
        kind,
        row_key: Value::Object(key).to_string(),
        differences: Value::Object(differences).to_string(),
        source_position: row.position.as_bytes().to_vec(),
        stored_position: stored.map(|stored| stored.position.clone()),
    })
}

fn excerpt(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |text| {
        text.chars().take(MAX_VALUE_CHARACTERS).collect::<String>().into()
    })
}
