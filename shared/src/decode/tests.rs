//! Whole payloads through a decoder: what becomes a row, and what becomes which fault.

mod properties;
mod records;
mod values;

use std::time::Duration;

use super::*;
use crate::catalog::{
    Batch, Column, ColumnSource, ColumnType, Field, LookupIndex, Matcher, Pointer, Root, TypeIndex, Version,
    VersionSource,
};
use crate::position::{RowNumber, TopicName};
use crate::row::{Cell, Row};

const NOW: &str = "2024-03-08T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn pointer(text: &str) -> Pointer {
    Pointer(
        text.split('/')
            .skip(1)
            .map(|step| step.replace("~1", "/").replace("~0", "~"))
            .collect(),
    )
}

/// A field as the catalog writes it: `^` starts at the record.
fn field(text: &str) -> Field {
    match text.strip_prefix('^') {
        Some(rest) => Field {
            root: Root::Record,
            pointer: pointer(rest),
        },
        None => Field {
            root: Root::Item,
            pointer: pointer(text),
        },
    }
}

fn column(name: &str, from: &str, column_type: ColumnType) -> Column {
    Column {
        name: name.to_owned(),
        source: ColumnSource::Field(field(from)),
        column_type,
        optional: false,
        round: false,
        zone: None,
    }
}

fn optional(column: Column) -> Column {
    Column {
        optional: true,
        ..column
    }
}

fn lookup(name: &str) -> Column {
    Column {
        source: ColumnSource::Lookup(LookupIndex(0)),
        ..column(name, "", ColumnType::String(255))
    }
}

/// A type of one row per record, with its id as the key, and a version by position.
fn one_row(columns: Vec<Column>) -> DataType {
    let mut all = vec![column("id", "/id", ColumnType::String(10))];
    all.extend(columns);
    DataType {
        name: "thing".to_owned(),
        topic: TopicName::new("things"),
        matcher: None,
        rows: None,
        id: pointer("/id"),
        in_key: false,
        table: "t_thing".to_owned(),
        key: vec![0],
        version: Version {
            source: VersionSource::Position,
            column: None,
            position_column: "source_position".to_owned(),
            max_ahead: None,
        },
        columns: all,
        batch: Batch {
            max_rows: 1000,
            linger: Duration::from_millis(20),
        },
    }
}

/// The valuation type that the design shows.
fn valuation() -> DataType {
    let decimal = ColumnType::Decimal {
        precision: 20,
        scale: 8,
    };
    DataType {
        rows: Some(pointer("/items")),
        id: pointer("/performanceId"),
        in_key: true,
        key: vec![0, 1],
        version: Version {
            source: VersionSource::Field {
                field: field("/sourceTime"),
                column_type: ColumnType::DateTime(3),
                zone: Some("UTC".to_owned()),
            },
            column: Some("source_time".to_owned()),
            position_column: "source_position".to_owned(),
            max_ahead: Some(Duration::from_secs(24 * 60 * 60)),
        },
        columns: vec![
            lookup("fund_code"),
            column("nav_date", "/date", ColumnType::Date),
            column("unit_nav", "/unitNav", decimal),
            optional(column("accumulated_nav", "/accumulatedNav", decimal)),
        ],
        ..one_row(Vec::new())
    }
}

fn source(key: Option<&[u8]>) -> RecordSource<'_> {
    RecordSource {
        generation: TopicGeneration(1),
        partition: Partition(2),
        offset: Offset(3),
        timestamp: 1_709_803_800_123,
        key,
        in_key: key.is_some(),
    }
}

/// What a record came to: its rows, and its row faults.
type Outcome = Result<(Vec<Row>, Vec<(RowNumber, Fault)>), Fault>;

fn decode_from(source: &RecordSource<'_>, data_type: &DataType, payload: &[u8]) -> Outcome {
    let decoder = Decoder::new(data_type).expect("a plan");
    let (mut drafts, mut rows) = (Drafts::default(), Vec::new());
    decoder.decode(source, payload, now(), &Limits::default(), &mut drafts)?;
    drafts.complete(|_| "000042", &mut rows)?;
    Ok((rows, drafts.take_row_faults()))
}

fn decode(data_type: &DataType, payload: impl AsRef<[u8]>) -> Outcome {
    decode_from(&source(None), data_type, payload.as_ref())
}

fn class(outcome: &Outcome) -> Option<FaultClass> {
    outcome.as_ref().err().map(|fault| fault.class)
}

/// The cells of the only row.
fn cells(outcome: &Outcome) -> Vec<Cell<'_>> {
    match outcome {
        Ok((rows, faults)) if rows.len() == 1 && faults.is_empty() => rows[0].cells.iter().collect(),
        other => panic!("one row was expected: {other:?}"),
    }
}
