//! Which columns of MySQL hold the values of which column type, whole and unchanged.

use super::super::model::ColumnType;
use super::snapshot::ColumnSnapshot;

/// The longest VARCHAR in utf8mb4 that a row has room for.
const LONGEST_VARCHAR: u32 = 16_383;

/// Tells whether a column holds every value of a type and gives it back as it was.
pub(super) fn fits(column_type: ColumnType, column: &ColumnSnapshot) -> bool {
    let name = column.data_type.as_str();
    match column_type {
        ColumnType::LOOKUP => characters(column).is_some(),
        ColumnType::String(length) => characters(column).is_some_and(|room| room >= u64::from(length)),
        ColumnType::Int => matches!(name, "int" | "bigint") && !column.is_unsigned(),
        ColumnType::BigInt => name == "bigint" && !column.is_unsigned(),
        ColumnType::Decimal { precision, scale } => {
            name == "decimal"
                && !column.is_unsigned()
                && column.precision == Some(u64::from(precision))
                && column.scale == Some(u64::from(scale))
        }
        ColumnType::Date => name == "date",
        ColumnType::DateTime(digits) => name == "datetime" && column.time_digits == Some(u64::from(digits)),
        ColumnType::Bool => matches!(name, "tinyint" | "smallint" | "mediumint" | "int" | "bigint"),
        // MariaDB's JSON is a LONGTEXT.
        ColumnType::Json => matches!(name, "json" | "longtext"),
    }
}

/// Returns how many characters a column has room for, whatever they are; `None` where it is not one of characters.
pub(super) fn characters(column: &ColumnSnapshot) -> Option<u64> {
    match column.data_type.as_str() {
        "char" | "varchar" => column.length,
        // The length of these is in bytes, on both servers.
        "tinytext" | "text" | "mediumtext" | "longtext" => {
            Some(column.octets? / column.character_octets.unwrap_or(1).max(1))
        }
        _ => None,
    }
}

/// Returns the type to declare a column with, in SQL; `None` for lookups, whose length the catalog does not say.
pub(super) fn sql_type(column_type: ColumnType) -> Option<String> {
    Some(match column_type {
        ColumnType::LOOKUP => return None,
        ColumnType::String(length) if length <= LONGEST_VARCHAR => format!("VARCHAR({length})"),
        ColumnType::String(_) => "LONGTEXT".to_owned(),
        ColumnType::Int => "INT".to_owned(),
        ColumnType::BigInt => "BIGINT".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
        ColumnType::Date => "DATE".to_owned(),
        ColumnType::DateTime(digits) => format!("DATETIME({digits})"),
        ColumnType::Bool => "TINYINT".to_owned(),
        ColumnType::Json => "JSON".to_owned(),
    })
}
