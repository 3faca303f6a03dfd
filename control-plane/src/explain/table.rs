//! What a target table holds for the keys of rows: version and source position, nothing else.

use reprise_shared::catalog::{ColumnType, DataType, VersionSource};
use reprise_shared::mysql::{errors, quote};
use reprise_shared::row::{Cell, Row};
use sqlx::mysql::{MySqlArguments, MySqlPool};
use sqlx::{Arguments as _, AssertSqlSafe, Row as _};

/// So many rows are asked for in one statement.
const ROWS: usize = 64;
/// "Illegal mix of collations", and a text that the column's character set does not have: no row can have such a key.
const FOREIGN_TEXT: [u16; 2] = [1267, 3988];

/// The guard columns of a stored row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    /// As [`Row::version`].
    pub(super) version: i64,
    /// The version for a person; empty where the type has none but the position.
    pub(super) version_text: String,
    /// 16 bytes; a backfilled row has one.
    pub(super) position: Vec<u8>,
}

/// Reads the stored rows that have the keys of `rows`, in their order.
pub(super) async fn stored(pool: &MySqlPool, data_type: &DataType, rows: &[Row]) -> sqlx::Result<Vec<Option<Guard>>> {
    let mut all = vec![None; rows.len()];
    for (part, found) in rows.chunks(ROWS).zip(all.chunks_mut(ROWS)) {
        let mut arguments = MySqlArguments::default();
        let mut selects = Vec::with_capacity(part.len());
        for (number, row) in part.iter().enumerate() {
            selects.push(select(data_type, number, row, &mut arguments)?);
        }
        let sql = format!("/* explain_rows */ {}", selects.join(" UNION ALL "));
        let answer = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(pool).await;
        let answer = match answer {
            Err(error) if errors::number(&error).is_some_and(|number| FOREIGN_TEXT.contains(&number)) => continue,
            other => other?,
        };
        for row in answer {
            let number = usize::try_from(row.try_get::<i64, _>("number")?).unwrap_or(usize::MAX);
            let guard = Guard {
                version: row.try_get("version")?,
                version_text: row.try_get("version_text")?,
                position: row.try_get("position")?,
            };
            if let Some(place) = found.get_mut(number) {
                *place = Some(guard);
            }
        }
    }
    Ok(all)
}

/// Writes the question for one row, by its primary key. Identifiers come from the catalog, values are bound.
fn select(data_type: &DataType, number: usize, row: &Row, arguments: &mut MySqlArguments) -> sqlx::Result<String> {
    let version = &data_type.version;
    let (number_of, text_of) = match &version.column {
        Some(column) => version_expressions(&quote(column), &version.source),
        None => ("CAST(0 AS SIGNED)".to_owned(), "''".to_owned()),
    };
    let cells: Vec<Cell<'_>> = row.cells.iter().collect();
    let mut conditions = Vec::with_capacity(data_type.key.len());
    for &place in &data_type.key {
        let (column, cell) = (
            &data_type.columns[place],
            cells.get(place).copied().unwrap_or(Cell::Null),
        );
        let added = match cell {
            Cell::Int(value) => arguments.add(value),
            Cell::Text(text) => arguments.add(text),
            Cell::Null => arguments.add(None::<&str>),
        };
        added.map_err(sqlx::Error::Encode)?;
        conditions.push(format!("{} = {}", quote(&column.name), parameter(column.column_type)));
    }
    Ok(format!(
        "(SELECT CAST({number} AS SIGNED) AS number, {number_of} AS version, {text_of} AS version_text, {position} AS \
         position FROM {table} WHERE {conditions})",
        position = quote(&version.position_column),
        table = quote(&data_type.table),
        conditions = conditions.join(" AND "),
    ))
}

/// Writes a version as the number that rows have, and as text.
fn version_expressions(column: &str, source: &VersionSource) -> (String, String) {
    let microseconds = format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', {column})");
    let text = format!("CAST({column} AS CHAR)");
    match source {
        VersionSource::Field {
            column_type: ColumnType::DateTime(_),
            ..
        } => (microseconds, format!("CONCAT({text}, ' UTC')")),
        VersionSource::RecordTime => (format!("{microseconds} DIV 1000"), format!("CONCAT({text}, ' UTC')")),
        VersionSource::Field { .. } | VersionSource::Position => (column.to_owned(), text),
    }
}

/// Writes a parameter so that it is compared as the column's type: a decimal as text would be compared as a float.
fn parameter(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Decimal { precision, scale } => format!("CAST(? AS DECIMAL({precision},{scale}))"),
        ColumnType::Date => "CAST(? AS DATE)".to_owned(),
        ColumnType::DateTime(digits) => format!("CAST(? AS DATETIME({digits}))"),
        ColumnType::String(_) | ColumnType::Int | ColumnType::BigInt | ColumnType::Bool | ColumnType::Json => {
            "?".to_owned()
        }
    }
}
