//! The version: one of three forms, each with its own keys.

use std::time::Duration;

use super::super::faults::Collector;
use super::super::model::{ColumnType, Version, VersionSource};
use super::super::raw::RawVersion;
use super::super::section::Given;
use super::{column, data_type, duration, names};

const FORMS: &str = "write one of field: (with type:), record_time: true and position: true";
const VERSION_TYPES: &str = "write datetime(0) to datetime(6), or bigint";
const DEFAULT_MAX_AHEAD: Duration = Duration::from_hours(24);

/// Compiles the version of one data type.
pub(super) fn compile(raw: &RawVersion, faults: &mut Collector) -> Option<Version> {
    let column_path = raw.path.key("column");
    let column = names::identifier(&column_path, &raw.column, faults);
    let position_column = names::identifier(&raw.path.key("position_column"), &raw.position_column, faults);
    for (key, given) in [("record_time", &raw.record_time), ("position", &raw.position)] {
        if given.value() == Some(&false) {
            faults.add(&raw.path.key(key), "is false", "leave it out, or write true");
        }
    }
    let is_position = raw.position.is_present();
    let has_column = !is_position && (raw.field.is_present() || raw.record_time.is_present());
    if has_column && !raw.column.is_present() {
        faults.add(&column_path, "is missing", "name the column that stores the version");
    }
    let max_ahead = duration(&raw.path.key("max_ahead"), &raw.max_ahead, DEFAULT_MAX_AHEAD, faults);
    let source = match (raw.field.is_present(), raw.record_time.is_present(), is_position) {
        (true, false, false) => field(raw, faults)?,
        (false, true, false) => {
            refuse(
                raw,
                &["type", "zone"],
                "record_time, which is a datetime(3) in UTC",
                faults,
            );
            VersionSource::RecordTime
        }
        (false, false, true) => {
            refuse(
                raw,
                &["type", "zone", "column", "max_ahead"],
                "position, which has no column but its own",
                faults,
            );
            return Some(Version {
                source: VersionSource::Position,
                column: None,
                position_column: position_column?,
                max_ahead: None,
            });
        }
        (false, false, false) => {
            faults.add(&raw.path, "has no source", FORMS);
            return None;
        }
        _ => {
            faults.add(&raw.path, "has more than one source", FORMS);
            return None;
        }
    };
    let max_ahead = match &source {
        VersionSource::Field {
            column_type: ColumnType::BigInt,
            ..
        } => {
            refuse(raw, &["max_ahead"], "bigint, which is not a time", faults);
            None
        }
        VersionSource::Field { .. } | VersionSource::RecordTime | VersionSource::Position => Some(max_ahead?),
    };
    Some(Version {
        source,
        column: Some(column?),
        position_column: position_column?,
        max_ahead,
    })
}

fn field(raw: &RawVersion, faults: &mut Collector) -> Option<VersionSource> {
    let field_path = raw.path.key("field");
    let field = column::field(&field_path, &raw.field, faults);
    if field.as_ref().is_some_and(|field| field.pointer.0.is_empty()) {
        faults.add(
            &field_path,
            "is empty",
            "write a JSON pointer to a field, such as /sourceTime",
        );
    }
    let type_path = raw.path.key("type");
    let zone = column::zone(&raw.path.key("zone"), &raw.zone, faults);
    let column_type = match &raw.column_type {
        Given::Absent => {
            faults.add(&type_path, "is missing", VERSION_TYPES);
            None
        }
        Given::Faulty => None,
        Given::Value(text) => data_type::column_type(&type_path, text, faults),
    }?;
    match column_type {
        ColumnType::DateTime(_) => {}
        ColumnType::BigInt => refuse(raw, &["zone"], "bigint, which is not a time", faults),
        ColumnType::String(_)
        | ColumnType::Int
        | ColumnType::Decimal { .. }
        | ColumnType::Date
        | ColumnType::Bool
        | ColumnType::Json => {
            faults.add(&type_path, format!("{column_type} cannot be a version"), VERSION_TYPES);
            return None;
        }
    }
    Some(VersionSource::Field {
        field: field?,
        column_type,
        zone: zone?,
    })
}

/// Refuses keys that have no meaning for this form.
fn refuse(raw: &RawVersion, keys: &[&str], form: &str, faults: &mut Collector) {
    let present = [
        ("type", raw.column_type.is_present()),
        ("zone", raw.zone.is_present()),
        ("column", raw.column.is_present()),
        ("max_ahead", raw.max_ahead.is_present()),
    ];
    for (key, _) in present
        .into_iter()
        .filter(|(key, present)| *present && keys.contains(key))
    {
        faults.add(&raw.path.key(key), format!("has no meaning for {form}"), "leave it out");
    }
}
