//! The guard columns: a version or position that is NULL, cut or padded would let an old row win.

use super::super::super::model::{ColumnType, DataType};
use super::super::columns::{fits, sql_type};
use super::super::snapshot::{ColumnDefault, ColumnSnapshot, TableSnapshot};
use super::{Collector, add_column, modify_column};

/// The least values that the version column of a row may start with when another data type inserts it.
const LEAST_BIGINT: &str = "-9223372036854775808";
const LEAST_DATETIME: &str = "1000-01-01 00:00:00";

/// What a guard column has to be.
struct Guard<'a> {
    column: &'a str,
    /// The type in SQL.
    sql_type: String,
    /// Its type; `None` for the position column.
    column_type: Option<ColumnType>,
    /// The default that it needs when other data types insert rows without it, in SQL.
    least: &'static str,
    is_least: fn(&str) -> bool,
}

/// Checks the guard columns of one data type.
pub(super) fn check(data_type: &DataType, is_shared: bool, table: &TableSnapshot, faults: &mut Collector) {
    for guard in guards(data_type) {
        guard.check(is_shared, table, faults);
    }
}

/// Returns the definitions of a data type's guard columns, in SQL.
pub(super) fn definitions(data_type: &DataType, is_shared: bool) -> Vec<String> {
    guards(data_type)
        .iter()
        .map(|guard| format!("`{}` {}", guard.column, guard.definition(is_shared)))
        .collect()
}

fn guards(data_type: &DataType) -> Vec<Guard<'_>> {
    let version = data_type.version.column.as_deref().zip(data_type.version.column_type());
    let version = version.and_then(|(column, column_type)| {
        let is_number = column_type == ColumnType::BigInt;
        Some(Guard {
            column,
            sql_type: sql_type(column_type)?,
            column_type: Some(column_type),
            least: if is_number {
                LEAST_BIGINT
            } else {
                "'1000-01-01 00:00:00'"
            },
            is_least: if is_number {
                |text| text == LEAST_BIGINT
            } else {
                is_least_datetime
            },
        })
    });
    let position = Guard {
        column: &data_type.version.position_column,
        sql_type: "VARBINARY(16)".to_owned(),
        column_type: None,
        least: "''",
        is_least: |text| {
            matches!(
                text.to_ascii_lowercase().as_str(),
                "" | "0x" | "''" | "x''" | "_binary''"
            )
        },
    };
    version.into_iter().chain([position]).collect()
}

/// Tells whether a default is the least that MySQL documents for DATETIME, or below it. Texts of times are in the order
/// of the times.
fn is_least_datetime(text: &str) -> bool {
    text.starts_with(|char: char| char.is_ascii_digit()) && without_fraction(text) <= LEAST_DATETIME
}

/// Drops a fraction of zeros.
fn without_fraction(text: &str) -> &str {
    match text.split_once('.') {
        Some((seconds, fraction)) if fraction.bytes().all(|byte| byte == b'0') => seconds,
        _ => text,
    }
}

impl Guard<'_> {
    fn definition(&self, is_shared: bool) -> String {
        let default = if is_shared {
            format!(" DEFAULT {}", self.least)
        } else {
            String::new()
        };
        format!("{} NOT NULL{default}", self.sql_type)
    }

    fn fits(&self, column: &ColumnSnapshot) -> bool {
        match self.column_type {
            // BINARY would pad the short positions of backfilled rows.
            None => column.data_type == "varbinary" && column.length == Some(16),
            Some(column_type) => fits(column_type, column),
        }
    }

    fn check(&self, is_shared: bool, table: &TableSnapshot, faults: &mut Collector) {
        let definition = self.definition(is_shared);
        let Some(column) = table.column(self.column) else {
            faults.column(
                &table.name,
                self.column,
                "does not exist",
                add_column(&table.name, self.column, &definition),
            );
            return;
        };
        let remedy = modify_column(&table.name, self.column, &definition);
        if column.generated {
            faults.column(&table.name, self.column, "is computed by the server", remedy.clone());
        }
        if !self.fits(column) {
            let problem = format!("is {}, not {}", column.full_type, self.sql_type);
            faults.column(&table.name, self.column, problem, remedy.clone());
        }
        if column.nullable {
            faults.column(
                &table.name,
                self.column,
                "takes NULL, which no comparison orders",
                remedy.clone(),
            );
        }
        if !is_shared {
            return;
        }
        let problem = match &column.default {
            ColumnDefault::Value(text) if (self.is_least)(text) => return,
            ColumnDefault::Value(text) => format!("has the default {text:?}, which is not the least value"),
            ColumnDefault::None => "has no default, and other data types insert rows without it".to_owned(),
        };
        faults.column(&table.name, self.column, problem, remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_datetime_is_known_in_the_forms_that_servers_write() {
        for least in [
            "1000-01-01 00:00:00",
            "1000-01-01 00:00:00.000",
            "0001-01-01 00:00:00.000000",
            "0000-00-00 00:00:00",
        ] {
            assert!(is_least_datetime(least), "{least}");
        }
        for other in [
            "1000-01-01 00:00:00.001",
            "1000-01-01 00:00:01",
            "1970-01-01 00:00:00",
            "current_timestamp(3)",
            "",
        ] {
            assert!(!is_least_datetime(other), "{other}");
        }
    }
}
