//! One data type: its own parts, and whether they fit each other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::position::TopicName;

use super::super::column_type::COLUMN_TYPES;
use super::super::faults::{Collector, YamlPath};
use super::super::model::{Batch, Column, ColumnType, DataType, Matcher, Pointer};
use super::super::raw::{RawBatch, RawColumn, RawDataType, RawMatcher};
use super::super::section::{Given, nearest};
use super::{column, names, version};

/// MySQL's bound for one prepared statement.
const MAX_PLACEHOLDERS: usize = 65_535;
const MAX_ROWS: usize = 10_000;
const DEFAULT_ROWS: usize = 1_000;
const DEFAULT_LINGER: Duration = Duration::from_millis(20);
const MAX_LINGER: Duration = Duration::from_secs(10);
/// MySQL's bound for one index.
const MAX_KEY_COLUMNS: usize = 16;

/// Compiles one data type.
pub(super) fn compile(raw: &RawDataType, lookups: &[&str], faults: &mut Collector) -> Option<DataType> {
    names::check_name(&raw.path, &raw.name, faults);
    if let Some(topic) = raw.topic.value() {
        names::check_topic(&raw.path.key("topic"), topic, faults);
    }
    let matcher = match &raw.matcher {
        Given::Absent => Some(None),
        Given::Faulty => None,
        Given::Value(matcher) => compile_matcher(matcher, faults).map(Some),
    };
    let rows = match &raw.rows {
        Given::Absent => Some(None),
        Given::Faulty => None,
        Given::Value(_) => record_pointer(&raw.path.key("rows"), &raw.rows, true, faults).map(Some),
    };
    let id = raw
        .id
        .value()
        .and_then(|id| record_pointer(&id.path.key("field"), &id.field, false, faults));
    let table = names::identifier(&raw.path.key("table"), &raw.table, faults);
    let columns = raw
        .columns
        .value()
        .and_then(|columns| compile_columns(columns, lookups, faults));
    let key = compile_key(raw, faults);
    let version = raw
        .version
        .value()
        .and_then(|version| version::compile(version, faults));
    check_guard_columns(raw, faults);
    // A placeholder for each column, the version column and the position column.
    let width = raw.columns.value().map_or(0, Vec::len)
        + raw
            .version
            .value()
            .map_or(0, |version| usize::from(version.column.is_present()))
        + 1;
    let batch = compile_batch(&raw.path, &raw.batch, width, faults);
    Some(DataType {
        name: raw.name.clone(),
        topic: raw.topic.value().map(TopicName::new)?,
        matcher: matcher?,
        rows: rows?,
        id: id?,
        in_key: raw.id.value()?.in_key.or(false)?,
        table: table?,
        key: key?,
        version: version?,
        columns: columns?,
        batch: batch?,
    })
}

fn compile_matcher(raw: &RawMatcher, faults: &mut Collector) -> Option<Matcher> {
    let equals = raw.equals.value().cloned();
    match (&raw.header, &raw.field) {
        (Given::Absent, Given::Absent) => {
            faults.add(
                &raw.path,
                "names neither a header nor a field",
                "write header: or field:",
            );
            None
        }
        (header, field) if header.is_present() && field.is_present() => {
            faults.add(
                &raw.path,
                "names both a header and a field",
                "write one of header: and field:",
            );
            None
        }
        (header, Given::Absent) => {
            let name = header.value()?;
            if name.is_empty() {
                faults.add(&raw.path.key("header"), "is empty", "write the name of a Kafka header");
            }
            Some(Matcher::Header {
                name: name.clone(),
                equals: equals?,
            })
        }
        (_, field) => {
            let pointer = record_pointer(&raw.path.key("field"), field, false, faults)?;
            Some(Matcher::Field {
                pointer,
                equals: equals?,
            })
        }
    }
}

/// Reads a pointer that always starts from the record.
fn record_pointer(
    path: &YamlPath,
    given: &Given<String>,
    may_be_whole: bool,
    faults: &mut Collector,
) -> Option<Pointer> {
    let text = given.value()?;
    if let Some(rest) = text.strip_prefix('^') {
        faults.add(
            path,
            format!("`{text}` starts with `^`"),
            format!("write `{rest}`: it is relative to the record always"),
        );
        return None;
    }
    match Pointer::parse(text) {
        Ok(pointer) if pointer.0.is_empty() && !may_be_whole => {
            faults.add(
                path,
                "is empty",
                "write a JSON pointer to a field, such as /performanceId",
            );
            None
        }
        Ok(pointer) => Some(pointer),
        Err(problem) => {
            faults.add(
                path,
                format!("`{text}` {problem}"),
                "write a JSON pointer (RFC 6901), such as /performanceId",
            );
            None
        }
    }
}

fn compile_columns(raw: &[RawColumn], lookups: &[&str], faults: &mut Collector) -> Option<Vec<Column>> {
    let mut seen = BTreeMap::new();
    for column in raw {
        names::check_identifier(&column.path, &column.name, faults);
        if let Some(first) = seen.insert(column.name.to_ascii_lowercase(), &column.name) {
            let problem = format!("is the same column as `{first}` for MySQL, which ignores case");
            faults.add(&column.path, problem, "keep one of the two");
        }
    }
    let columns: Vec<_> = raw
        .iter()
        .map(|column| column::compile(column, lookups, faults))
        .collect();
    columns.into_iter().collect()
}

/// Returns the places of the key's columns.
fn compile_key(raw: &RawDataType, faults: &mut Collector) -> Option<Vec<usize>> {
    let path = raw.path.key("key");
    let names = raw.key.value()?;
    if names.is_empty() || names.len() > MAX_KEY_COLUMNS {
        let problem = if names.is_empty() {
            "is empty"
        } else {
            "has more columns than an index of MySQL"
        };
        faults.add(
            &path,
            problem,
            format!("name the 1 to {MAX_KEY_COLUMNS} columns of the table's primary key"),
        );
    }
    let columns = raw.columns.value()?;
    let mut places = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let path = path.element(index);
        let Some(place) = columns.iter().position(|column| column.name == *name) else {
            let near = nearest(name, columns.iter().map(|column| column.name.as_str()));
            let remedy = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name one of the columns".to_owned(),
            };
            faults.add(&path, format!("`{name}` is not among the columns"), remedy);
            continue;
        };
        if places.contains(&place) {
            faults.add(
                &path,
                format!("`{name}` stands twice in the key"),
                "keep one of the two",
            );
        }
        places.push(place);
        check_key_column(&columns[place], faults);
    }
    Some(places)
}

fn check_key_column(column: &RawColumn, faults: &mut Collector) {
    if column.optional.value() == Some(&true) {
        faults.add(
            &column.path.key("optional"),
            "is set on a key column",
            "leave it out: a key is never null",
        );
    }
    if column.column_type.value().and_then(|text| text.parse().ok()) == Some(ColumnType::Json) {
        faults.add(
            &column.path.key("type"),
            "is json on a key column",
            "choose a type whose equal values are equal bytes",
        );
    }
}

/// The version column and the position column are written beside the columns, so they are neither among them nor one.
fn check_guard_columns(raw: &RawDataType, faults: &mut Collector) {
    let Some(version) = raw.version.value() else { return };
    let guards = [
        ("column", &version.column),
        ("position_column", &version.position_column),
    ];
    for (key, guard) in guards {
        let (Some(guard), Some(columns)) = (guard.value(), raw.columns.value()) else {
            continue;
        };
        if columns.iter().any(|column| column.name.eq_ignore_ascii_case(guard)) {
            let remedy = "choose a column that `columns` does not name";
            faults.add(
                &version.path.key(key),
                format!("`{guard}` is among the columns too"),
                remedy,
            );
        }
    }
    if let (Some(column), Some(position)) = (version.column.value(), version.position_column.value())
        && column.eq_ignore_ascii_case(position)
    {
        let problem = format!("`{position}` is the version column too");
        faults.add(
            &version.path.key("position_column"),
            problem,
            "choose two different columns",
        );
    }
}

fn compile_batch(path: &YamlPath, raw: &Given<RawBatch>, width: usize, faults: &mut Collector) -> Option<Batch> {
    let most = MAX_ROWS.min(MAX_PLACEHOLDERS / width);
    let default = Batch {
        max_rows: DEFAULT_ROWS.min(most),
        linger: DEFAULT_LINGER,
    };
    let raw = match raw {
        Given::Absent if most == 0 => {
            let problem = format!("have {width} placeholders a row, more than the {MAX_PLACEHOLDERS} of a statement");
            faults.add(&path.key("columns"), problem, "declare fewer columns");
            return None;
        }
        Given::Absent => return Some(default),
        Given::Faulty => return None,
        Given::Value(raw) => raw,
    };
    let max_rows = raw.max_rows.or(default.max_rows as u64);
    if let Some(rows) = max_rows.filter(|rows| !(1..=most as u64).contains(rows)) {
        let bound = if most < MAX_ROWS {
            format!("1 to {most}: {width} placeholders a row, {MAX_PLACEHOLDERS} in a statement")
        } else {
            format!("1 to {MAX_ROWS}")
        };
        faults.add(
            &raw.path.key("max_rows"),
            format!("{rows} is out of bounds"),
            format!("write {bound}"),
        );
    }
    let linger = raw.linger.or(default.linger);
    if let Some(linger) = linger.filter(|linger| *linger > MAX_LINGER) {
        let problem = format!("{} is out of bounds", humantime::format_duration(linger));
        faults.add(&raw.path.key("linger"), problem, "write at most 10s");
    }
    Some(Batch {
        max_rows: usize::try_from(max_rows?).ok()?,
        linger: linger?,
    })
}

/// Reads a type of a column or version.
pub(super) fn column_type(path: &YamlPath, text: &str, faults: &mut Collector) -> Option<ColumnType> {
    text.parse()
        .map_err(|problem: String| faults.add(path, problem, COLUMN_TYPES))
        .ok()
}
