//! The multi-row insert of one data type, in a small fixed set of sizes, and its arguments: guarded for live traffic, and
//! in two more forms for tasks.
//!
//! A row is applied where its (version, position) is greater than **or equal to** the stored pair: equal, so that
//! replaying a record after a decode bug was fixed changes the row. MySQL assigns from left to right, so the columns
//! come first, then the position by the same condition, and the version last, by `GREATEST`. `VALUES(col)` and not a
//! row alias: both MySQL and MariaDB must read it.

use std::sync::Arc;

use reprise_shared::catalog::{ColumnType, DataType};
use reprise_shared::isolated;
use reprise_shared::mysql::quote;
use reprise_shared::row::{Cell, Row};
use sqlx::mysql::MySqlArguments;
use sqlx::{Arguments, AssertSqlSafe, SqlSafeStr, SqlStr};

/// The protocol's limit.
const MAX_PLACEHOLDERS: usize = 65_535;

/// What happens to a row that is stored already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStored {
    /// It is replaced, unless it is newer.
    Guard,
    /// It is replaced.
    Replace,
    /// It stays as it is, and is locked. A row that was not stored is, with an empty position: a marker, which must be
    /// replaced before the commit.
    Mark,
}

/// Where rows go, and how.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The table.
    pub table: &'a str,
    /// The value of its column [`isolated::JOB_COLUMN`], where it has one.
    pub job: Option<&'a str>,
    /// What happens to a row that is stored already.
    pub on_stored: OnStored,
}

/// The statements of one data type.
#[derive(Debug)]
pub struct Upsert {
    /// The job, where rows are isolated by it.
    job: Option<Box<str>>,
    /// The position is left empty.
    marks: bool,
    /// Per inserted column, the position column left out: whether NULL is bound as an integer.
    integers: Vec<bool>,
    /// By size, largest first; the last is of one row.
    shapes: Vec<Shape>,
}

#[derive(Debug)]
struct Shape {
    rows: usize,
    sql: Arc<str>,
}

impl Upsert {
    /// Builds the guarded statements of the type's own table.
    pub fn new(data_type: &DataType) -> Self {
        let target = Target {
            table: &data_type.table,
            job: None,
            on_stored: OnStored::Guard,
        };
        Self::to(data_type, &target)
    }

    /// Builds the statements for `max_rows` (bounded by the number of placeholders) and every power of two below it.
    pub fn to(data_type: &DataType, target: &Target<'_>) -> Self {
        let mut integers: Vec<bool> = data_type
            .columns
            .iter()
            .map(|column| is_integer(column.column_type))
            .collect();
        if data_type.version.column.is_some() {
            integers.push(false);
        }
        let columns = integers.len() + 1 + usize::from(target.job.is_some());
        let max_rows = data_type.batch.max_rows.clamp(1, (MAX_PLACEHOLDERS / columns).max(1));
        let (head, tail) = (head(data_type, target), tail(data_type, target.on_stored));
        let tuple = format!("({})", vec!["?"; columns].join(","));
        let powers = (0..usize::BITS - 1)
            .map(|power| 1 << power)
            .take_while(|size| *size < max_rows);
        let sizes: Vec<usize> = powers.chain([max_rows]).collect();
        let shapes = sizes
            .into_iter()
            .rev()
            .map(|rows| Shape {
                rows,
                sql: format!("{head}{}{tail}", vec![tuple.as_str(); rows].join(",")).into(),
            })
            .collect();
        Self {
            job: target.job.map(Into::into),
            marks: target.on_stored == OnStored::Mark,
            integers,
            shapes,
        }
    }

    /// Returns the most rows of one statement.
    pub fn max_rows(&self) -> usize {
        self.shapes[0].rows
    }

    /// Returns an upper bound of a row's bytes in the statement's packet.
    pub fn row_bytes(&self, row: &Row) -> usize {
        let job = self.job.as_ref().map_or(0, |job| job.len() + 8);
        job + row.cells.len() + 8 * (self.integers.len() + 1) + row.position.as_bytes().len()
    }

    /// Returns how many of the next rows go into one statement: the largest size that has at most `at_most` rows and
    /// stays within `limit` bytes, text and arguments each. One row is always allowed. `sizes` are the rows' bytes.
    pub fn fitting(&self, sizes: impl Iterator<Item = usize>, at_most: usize, limit: usize) -> usize {
        let mut bytes = 0;
        let fit = sizes
            .take(at_most.min(self.max_rows()))
            .take_while(|size| {
                bytes += size;
                bytes <= limit
            })
            .count();
        self.shapes
            .iter()
            .find(|shape| shape.rows <= fit && shape.sql.len() <= limit)
            .map_or(1, |shape| shape.rows)
    }

    /// Returns the statement of exactly this many rows, which [`Upsert::fitting`] returned.
    pub fn sql(&self, rows: usize) -> SqlStr {
        let shape = self.shapes.iter().find(|shape| shape.rows == rows);
        let shape = shape.expect("the number of rows comes from `fitting`, which returns sizes of this set");
        AssertSqlSafe(shape.sql.clone()).into_sql_str()
    }

    /// Returns the statement's text of exactly this many rows, if there is one of this size.
    pub fn text(&self, rows: usize) -> Option<&str> {
        self.shapes
            .iter()
            .find(|shape| shape.rows == rows)
            .map(|shape| &*shape.sql)
    }

    /// Binds rows. `bytes` is a hint of what they need.
    pub fn bind<'r>(
        &self,
        rows: impl ExactSizeIterator<Item = &'r Row>,
        bytes: usize,
    ) -> Result<MySqlArguments, sqlx::Error> {
        let mut arguments = MySqlArguments::default();
        arguments.reserve(rows.len() * (self.integers.len() + 2), bytes);
        for row in rows {
            self.bind_row(row, &mut arguments).map_err(sqlx::Error::Encode)?;
        }
        Ok(arguments)
    }

    fn bind_row(&self, row: &Row, arguments: &mut MySqlArguments) -> Result<(), sqlx::error::BoxDynError> {
        if let Some(job) = &self.job {
            arguments.add(&**job)?;
        }
        for (cell, integer) in row.cells.iter().zip(&self.integers) {
            match cell {
                Cell::Int(value) => arguments.add(value)?,
                Cell::Text(text) => arguments.add(text)?,
                // The type of a NULL is that of the column's values, so that the server never sees a parameter change
                // its type between two executions.
                Cell::Null if *integer => arguments.add(None::<i64>)?,
                Cell::Null => arguments.add(None::<&str>)?,
            }
        }
        let position: &[u8] = if self.marks { &[] } else { row.position.as_bytes() };
        arguments.add(position)
    }
}

fn is_integer(column_type: ColumnType) -> bool {
    match column_type {
        ColumnType::Int | ColumnType::BigInt | ColumnType::Bool => true,
        ColumnType::String(_)
        | ColumnType::Decimal { .. }
        | ColumnType::Date
        | ColumnType::DateTime(_)
        | ColumnType::Json => false,
    }
}

fn head(data_type: &DataType, target: &Target<'_>) -> String {
    let mut columns: Vec<String> = data_type.insert_columns().map(quote).collect();
    columns.push(quote(&data_type.version.position_column));
    if target.job.is_some() {
        columns.insert(0, quote(isolated::JOB_COLUMN));
    }
    let (name, table) = (&data_type.name, quote(target.table));
    let verb = match target.on_stored {
        OnStored::Guard => "upsert",
        OnStored::Replace => "replace",
        OnStored::Mark => "mark",
    };
    format!(
        "/* {verb}_{name} */ INSERT INTO {table} ({}) VALUES ",
        columns.join(",")
    )
}

fn tail(data_type: &DataType, on_stored: OnStored) -> String {
    let position = quote(&data_type.version.position_column);
    let version = data_type.version.column.as_deref().map(quote);
    let condition = match &version {
        Some(version) => {
            format!("VALUES({version})>{version} OR (VALUES({version})={version} AND VALUES({position})>={position})")
        }
        None => format!("VALUES({position})>={position}"),
    };
    let assigned = |column: &str| match on_stored {
        OnStored::Guard => format!("{column}=IF({condition},VALUES({column}),{column})"),
        OnStored::Replace => format!("{column}=VALUES({column})"),
        OnStored::Mark => format!("{column}={column}"),
    };
    let (keys, values): (Vec<usize>, Vec<usize>) =
        (0..data_type.columns.len()).partition(|place| data_type.key.contains(place));
    let name = |place: &usize| assigned(&quote(&data_type.columns[*place].name));
    let mut assignments: Vec<String>;
    if on_stored == OnStored::Mark {
        assignments = keys.iter().map(name).collect();
    } else {
        assignments = values.iter().map(name).collect();
        assignments.push(assigned(&position));
        assignments.extend(version.map(|version| match on_stored {
            OnStored::Guard => format!("{version}=GREATEST({version},VALUES({version}))"),
            OnStored::Replace | OnStored::Mark => assigned(&version),
        }));
    }
    format!(" ON DUPLICATE KEY UPDATE {}", assignments.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::work::tests::fund_type;

    #[test]
    fn the_guard_assigns_columns_then_position_then_version() {
        let upsert = Upsert::new(&fund_type(1));
        assert_eq!(
            upsert.text(1),
            Some(
                "/* upsert_fund */ INSERT INTO `t_fund` (`code`,`amount`,`version`,`pos`) VALUES (?,?,?,?) \
                 ON DUPLICATE KEY UPDATE \
                 `amount`=IF(VALUES(`version`)>`version` OR (VALUES(`version`)=`version` AND VALUES(`pos`)>=`pos`),VALUES(`amount`),`amount`),\
                 `pos`=IF(VALUES(`version`)>`version` OR (VALUES(`version`)=`version` AND VALUES(`pos`)>=`pos`),VALUES(`pos`),`pos`),\
                 `version`=GREATEST(`version`,VALUES(`version`))"
            )
        );
    }

    #[test]
    fn a_marker_leaves_what_is_stored_and_a_replacement_asks_nothing() {
        let data_type = fund_type(1);
        let text = |on_stored, job| {
            let target = Target {
                table: "t",
                job,
                on_stored,
            };
            Upsert::to(&data_type, &target).text(1).expect("one row").to_owned()
        };
        assert_eq!(
            text(OnStored::Mark, None),
            "/* mark_fund */ INSERT INTO `t` (`code`,`amount`,`version`,`pos`) VALUES (?,?,?,?) \
             ON DUPLICATE KEY UPDATE `code`=`code`"
        );
        assert_eq!(
            text(OnStored::Replace, Some("j")),
            "/* replace_fund */ INSERT INTO `t` (`replay_job_id`,`code`,`amount`,`version`,`pos`) VALUES (?,?,?,?,?) \
             ON DUPLICATE KEY UPDATE `amount`=VALUES(`amount`),`pos`=VALUES(`pos`),`version`=VALUES(`version`)"
        );
    }

    #[test]
    fn a_type_without_version_column_compares_positions_only() {
        let mut data_type = fund_type(1);
        data_type.version.column = None;
        let upsert = Upsert::new(&data_type);
        let text = upsert.text(1).expect("one row");
        assert!(text.ends_with(
            "UPDATE `amount`=IF(VALUES(`pos`)>=`pos`,VALUES(`amount`),`amount`),\
             `pos`=IF(VALUES(`pos`)>=`pos`,VALUES(`pos`),`pos`)"
        ));
    }

    #[test]
    fn sizes_are_max_rows_and_the_powers_of_two_below() {
        let upsert = Upsert::new(&fund_type(1_000));
        let sizes: Vec<_> = upsert.shapes.iter().map(|shape| shape.rows).collect();
        assert_eq!(sizes, [1_000, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1]);
        assert_eq!(Upsert::new(&fund_type(64)).shapes.len(), 7);
    }

    #[test]
    fn i6_placeholders_and_bytes_stay_within_their_limits() {
        let upsert = Upsert::new(&fund_type(1_000_000));
        assert!(upsert.max_rows() * 4 <= MAX_PLACEHOLDERS);
        let upsert = Upsert::new(&fund_type(1_000));
        let rows = || std::iter::repeat_n(100, 1_000);
        assert_eq!(upsert.fitting(rows(), usize::MAX, 10_000_000), 1_000);
        assert_eq!(upsert.fitting(rows(), 999, 10_000_000), 512);
        assert_eq!(upsert.fitting(rows(), usize::MAX, 10_000), 64);
        assert_eq!(upsert.fitting(rows(), usize::MAX, 10), 1);
    }
}
