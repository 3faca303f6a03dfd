//! One column: where its value comes from and what it may be.

use super::super::column_type::COLUMN_TYPES;
use super::super::faults::{Collector, YamlPath};
use super::super::model::{Column, ColumnSource, ColumnType, Field, LookupIndex};
use super::super::raw::RawColumn;
use super::super::section::{Given, nearest};
use super::data_type::column_type;

/// Compiles one column.
pub(super) fn compile(raw: &RawColumn, lookups: &[&str], faults: &mut Collector) -> Option<Column> {
    match (raw.field.is_present(), raw.lookup.is_present()) {
        (true, false) => from_field(raw, faults),
        (false, true) => from_lookup(raw, lookups, faults),
        (true, true) => {
            faults.add(
                &raw.path,
                "comes from both a field and a lookup",
                "write one of field: and lookup:",
            );
            None
        }
        (false, false) => {
            faults.add(
                &raw.path,
                "comes from nowhere",
                "write field: (a JSON pointer) and type:, or lookup:",
            );
            None
        }
    }
}

fn from_field(raw: &RawColumn, faults: &mut Collector) -> Option<Column> {
    let field = field(&raw.path.key("field"), &raw.field, faults);
    let type_path = raw.path.key("type");
    let column_type = match &raw.column_type {
        Given::Absent => {
            faults.add(&type_path, "is missing", COLUMN_TYPES);
            None
        }
        Given::Faulty => None,
        Given::Value(text) => column_type(&type_path, text, faults),
    };
    if let Some(column_type) = column_type {
        let rounds = matches!(column_type, ColumnType::Decimal { .. } | ColumnType::DateTime(_));
        if raw.round.is_present() && !rounds {
            let problem = format!("has no meaning for {column_type}");
            faults.add(
                &raw.path.key("round"),
                problem,
                "leave it out: only decimal and datetime have digits to drop",
            );
        }
        if raw.zone.is_present() && !matches!(column_type, ColumnType::DateTime(_)) {
            let problem = format!("has no meaning for {column_type}");
            faults.add(&raw.path.key("zone"), problem, "leave it out: only datetime has a zone");
        }
    }
    Some(Column {
        name: raw.name.clone(),
        source: ColumnSource::Field(field?),
        column_type: column_type?,
        optional: raw.optional.or(false)?,
        round: raw.round.or(false)?,
        zone: zone(&raw.path.key("zone"), &raw.zone, faults)?,
    })
}

fn from_lookup(raw: &RawColumn, lookups: &[&str], faults: &mut Collector) -> Option<Column> {
    let keys = [
        ("type", raw.column_type.is_present(), "its values are strings"),
        (
            "optional",
            raw.optional.is_present(),
            "an id without a value is a dead letter until it has one",
        ),
        ("round", raw.round.is_present(), "its values are strings"),
        ("zone", raw.zone.is_present(), "its values are strings"),
    ];
    for (key, _, why) in keys.into_iter().filter(|(_, present, _)| *present) {
        faults.add(
            &raw.path.key(key),
            "has no meaning for a lookup",
            format!("leave it out: {why}"),
        );
    }
    let name = raw.lookup.value()?;
    let Some(index) = lookups.iter().position(|lookup| lookup == name) else {
        let remedy = match (nearest(name, lookups.iter().copied()), lookups.is_empty()) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, false) => format!("the lookups are {}", lookups.join(", ")),
            (None, true) => "declare it under lookups:".to_owned(),
        };
        faults.add(&raw.path.key("lookup"), format!("`{name}` is not a lookup"), remedy);
        return None;
    };
    Some(Column {
        name: raw.name.clone(),
        source: ColumnSource::Lookup(LookupIndex(index)),
        column_type: ColumnType::LOOKUP,
        optional: false,
        round: false,
        zone: None,
    })
}

/// Reads the pointer of a column or version.
pub(super) fn field(path: &YamlPath, given: &Given<String>, faults: &mut Collector) -> Option<Field> {
    let text = given.value()?;
    let remedy = "write a JSON pointer (RFC 6901), such as /navDate, or ^/navDate to start from the record";
    Field::parse(text)
        .map_err(|problem| faults.add(path, format!("`{text}` {problem}"), remedy))
        .ok()
}

/// Reads the zone of date-times that carry none; the outer `None` is a fault.
pub(super) fn zone(path: &YamlPath, given: &Given<String>, faults: &mut Collector) -> Option<Option<String>> {
    match given {
        Given::Absent => Some(None),
        Given::Faulty => None,
        Given::Value(name) if jiff::tz::TimeZone::get(name).is_ok() => Some(Some(name.clone())),
        Given::Value(name) => {
            let remedy = "write a name of the time zone database, such as UTC or Asia/Shanghai";
            faults.add(path, format!("`{name}` is not a known time zone"), remedy);
            None
        }
    }
}
