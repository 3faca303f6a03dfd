//! What a row finds stored under its key (pure): how the two compare, and what that counts as.
//!
//! Values are compared as their catalog types mean them, not by how the server prints them: `1.50` is `1.5`, and a time
//! is the same with and without idle fractions.

use std::borrow::Cow;
use std::cmp::Ordering;

use reprise_shared::catalog::{ColumnType, DataType, VersionSource};
use reprise_shared::jobs::WriteCounts;
use reprise_shared::row::{Cell, Row};

/// A stored row, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// In the order of the insert's columns; `None` for NULL.
    pub(super) cells: Vec<Option<String>>,
    /// The source position; empty for a marker.
    pub(super) position: Vec<u8>,
}

/// How a row stands to what is stored under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is stored, or only the marker of this transaction.
    Absent,
    /// The same row.
    Same,
    /// A row of the same version and position with other values.
    Different,
    /// A row of a lower version or position.
    Older,
    /// A row of a higher version or position.
    Newer,
}

/// The columns of one data type, as far as comparing needs them.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// In the order of the insert's columns: the version column, where there is one, is the last.
    types: Vec<ColumnType>,
    key: Vec<usize>,
    has_version: bool,
}

impl Columns {
    pub(super) fn new(data_type: &DataType) -> Self {
        let mut types: Vec<_> = data_type.columns.iter().map(|column| column.column_type).collect();
        let version = match &data_type.version.source {
            VersionSource::Field { column_type, .. } => Some(*column_type),
            VersionSource::RecordTime => Some(ColumnType::DateTime(3)),
            VersionSource::Position => None,
        };
        let has_version = data_type.version.column.is_some();
        types.extend(version.filter(|_| has_version));
        Self {
            types,
            key: data_type.key.clone(),
            has_version,
        }
    }

    pub(super) fn types(&self) -> &[ColumnType] {
        &self.types
    }

    pub(super) fn key(&self) -> &[usize] {
        &self.key
    }

    /// Returns the key of a row in a form that is the same however its values are written.
    pub(super) fn key_of(&self, row: &Row) -> Vec<String> {
        let cells: Vec<_> = row.cells.iter().collect();
        let text = |place: &usize| cells.get(*place).and_then(|cell| plain(*cell, self.types[*place]));
        self.key
            .iter()
            .map(|place| text(place).map(Cow::into_owned).unwrap_or_default())
            .collect()
    }

    /// Returns the key of a stored row in the same form.
    pub(super) fn key_of_stored(&self, stored: &Stored) -> Vec<String> {
        let text = |place: &usize| stored.cells.get(*place).and_then(Option::as_deref);
        self.key
            .iter()
            .map(|place| normal(text(place).unwrap_or_default(), self.types[*place]).into_owned())
            .collect()
    }

    /// Compares a row with what is stored under its key.
    pub(super) fn compare(&self, row: &Row, stored: Option<&Stored>) -> Standing {
        let Some(stored) = stored.filter(|stored| !stored.position.is_empty()) else {
            return Standing::Absent;
        };
        let version = self.order_of_versions(row, stored);
        match version.then_with(|| stored.position.as_slice().cmp(row.position.as_bytes())) {
            Ordering::Less => Standing::Older,
            Ordering::Greater => Standing::Newer,
            Ordering::Equal if self.differences(row, stored).next().is_none() => Standing::Same,
            Ordering::Equal => Standing::Different,
        }
    }

    /// Returns the places of the columns whose values differ.
    pub(super) fn differences<'a>(&'a self, row: &'a Row, stored: &'a Stored) -> impl Iterator<Item = usize> + 'a {
        let cells = row.cells.iter().zip(&stored.cells).zip(&self.types).enumerate();
        cells
            .filter(|(_, ((cell, stored), column_type))| !same(*cell, stored.as_deref(), **column_type))
            .map(|(place, _)| place)
    }

    /// Returns how the stored version stands to the row's.
    fn order_of_versions(&self, row: &Row, stored: &Stored) -> Ordering {
        if !self.has_version {
            return Ordering::Equal;
        }
        let place = self.types.len() - 1;
        let (Some(cell), Some(Some(stored))) = (row.cells.iter().nth(place), stored.cells.get(place)) else {
            return Ordering::Less;
        };
        match cell {
            Cell::Int(version) => stored
                .parse::<i64>()
                .map_or(Ordering::Less, |stored| stored.cmp(&version)),
            // Without idle fractions, the order of the texts is the order of the times.
            Cell::Text(version) => normal(stored, self.types[place]).cmp(&normal(version, self.types[place])),
            Cell::Null => Ordering::Greater,
        }
    }
}

/// Adds what a row comes to that is written by the guard, or without it when `replaces`.
pub(super) fn count_written(counts: &mut WriteCounts, standing: Standing, replaces: bool) {
    match standing {
        Standing::Absent => counts.inserted += 1,
        Standing::Same => counts.unchanged += 1,
        Standing::Newer if !replaces => counts.stale += 1,
        Standing::Different | Standing::Older | Standing::Newer => counts.updated += 1,
    }
}

/// Adds what a row comes to that is only compared.
pub(super) fn count_verified(counts: &mut WriteCounts, standing: Standing) {
    match standing {
        Standing::Absent => counts.missing += 1,
        Standing::Same => counts.unchanged += 1,
        Standing::Different => counts.different += 1,
        Standing::Older => counts.older += 1,
        Standing::Newer => counts.stale += 1,
    }
}

fn same(cell: Cell<'_>, stored: Option<&str>, column_type: ColumnType) -> bool {
    match (plain(cell, column_type), stored) {
        (None, None) => true,
        (Some(row), Some(stored)) if column_type == ColumnType::Json => same_json(&row, stored),
        (Some(row), Some(stored)) => row == normal(stored, column_type),
        _ => false,
    }
}

/// MySQL keeps the meaning of a JSON value and MariaDB its text, so only the meaning can be compared.
fn same_json(a: &str, b: &str) -> bool {
    let parse = |text| serde_json::from_str::<serde_json::Value>(text);
    a == b || matches!((parse(a), parse(b)), (Ok(a), Ok(b)) if a == b)
}

/// Returns a cell in the form of [`normal`]; `None` for NULL.
pub(super) fn plain(cell: Cell<'_>, column_type: ColumnType) -> Option<Cow<'_, str>> {
    match cell {
        Cell::Null => None,
        Cell::Int(number) => Some(number.to_string().into()),
        Cell::Text(text) => Some(normal(text, column_type)),
    }
}

/// Writes a value in the one form that equal values share.
pub(super) fn normal(text: &str, column_type: ColumnType) -> Cow<'_, str> {
    match column_type {
        ColumnType::Decimal { .. } => normal_decimal(text),
        ColumnType::DateTime(_) => without_idle_fraction(text).into(),
        ColumnType::String(_)
        | ColumnType::Int
        | ColumnType::BigInt
        | ColumnType::Date
        | ColumnType::Bool
        | ColumnType::Json => text.into(),
    }
}

fn normal_decimal(text: &str) -> Cow<'_, str> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let digits = without_idle_fraction(digits);
    let whole = digits.trim_start_matches('0');
    let zero = if whole.is_empty() || whole.starts_with('.') {
        "0"
    } else {
        ""
    };
    match (sign, zero, whole) {
        (_, "0", "") => "0".into(),
        ("", "", whole) => whole.into(),
        (sign, zero, whole) => format!("{sign}{zero}{whole}").into(),
    }
}

fn without_idle_fraction(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use reprise_shared::position::{Offset, Partition, RowNumber, SourcePosition, TopicGeneration};
    use reprise_shared::row::CellWriter;

    use super::*;
    use crate::sink::work::tests::fund_type;

    fn row(amount: &str, version: &str, offset: u64) -> Row {
        let mut cells = CellWriter::default();
        for text in ["F1", amount, version] {
            cells.push(Cell::Text(text));
        }
        Row {
            key: b"F1".as_slice().into(),
            version: 0,
            position: SourcePosition::new(TopicGeneration(0), Partition(1), Offset(offset), RowNumber(0)),
            cells: cells.take(),
        }
    }

    fn stored(amount: Option<&str>, version: &str, offset: u64) -> Stored {
        Stored {
            cells: vec![Some("F1".into()), amount.map(Into::into), Some(version.into())],
            position: row("0", version, offset).position.as_bytes().to_vec(),
        }
    }

    const TIME: &str = "2024-03-07 09:30:00.000";
    const LATER: &str = "2024-03-07 09:30:00.001";

    #[test]
    fn version_then_position_then_values_decide() {
        let columns = Columns::new(&fund_type(10));
        let compare =
            |amount, version, offset| columns.compare(&row("1.5", TIME, 7), Some(&stored(amount, version, offset)));
        assert_eq!(columns.compare(&row("1.5", TIME, 7), None), Standing::Absent);
        assert_eq!(compare(Some("1.50"), TIME, 7), Standing::Same);
        assert_eq!(compare(Some("1.5"), "2024-03-07 09:30:00", 7), Standing::Same);
        assert_eq!(compare(Some("1.51"), TIME, 7), Standing::Different);
        assert_eq!(compare(None, TIME, 7), Standing::Different);
        assert_eq!(compare(Some("1.5"), TIME, 6), Standing::Older);
        assert_eq!(compare(Some("1.5"), TIME, 8), Standing::Newer);
        assert_eq!(compare(Some("1.5"), LATER, 6), Standing::Newer);
        assert_eq!(compare(Some("1.5"), "2024-03-07 09:29:59.999", 9), Standing::Older);
    }

    #[test]
    fn a_marker_is_no_row() {
        let columns = Columns::new(&fund_type(10));
        let mut marker = stored(Some("1.5"), TIME, 7);
        marker.position.clear();
        assert_eq!(columns.compare(&row("1.5", TIME, 7), Some(&marker)), Standing::Absent);
    }

    #[test]
    fn equal_decimals_have_one_form() {
        for (text, normal) in [
            ("1.50", "1.5"),
            ("-0.50", "-0.5"),
            ("00.00", "0"),
            ("-0", "0"),
            ("10", "10"),
            ("0100.0", "100"),
            (".5", "0.5"),
        ] {
            assert_eq!(normal_decimal(text), normal, "{text}");
        }
    }

    #[test]
    fn only_replacing_counts_a_newer_row_as_updated() {
        let (mut guarded, mut replaced) = (WriteCounts::default(), WriteCounts::default());
        for standing in [
            Standing::Absent,
            Standing::Same,
            Standing::Different,
            Standing::Older,
            Standing::Newer,
        ] {
            count_written(&mut guarded, standing, false);
            count_written(&mut replaced, standing, true);
        }
        assert_eq!(
            (guarded.inserted, guarded.unchanged, guarded.updated, guarded.stale),
            (1, 1, 2, 1)
        );
        assert_eq!(
            (replaced.inserted, replaced.unchanged, replaced.updated, replaced.stale),
            (1, 1, 3, 0)
        );
    }
}
