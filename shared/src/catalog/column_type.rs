//! Column types as they are written in the catalog.

use std::fmt;
use std::str::FromStr;

use super::model::{ColumnSource, ColumnType, Version, VersionSource};

/// What to write for a column's type.
pub(super) const COLUMN_TYPES: &str =
    "write one of string(n), int, bigint, decimal(p,s), date, datetime(0) to datetime(6), bool, json";

/// The most characters that `string(n)` may declare: what a LONGTEXT holds is beyond any record, so the bound is one
/// that a typing slip passes.
pub(super) const MAX_STRING: u32 = 16_777_215;

impl ColumnType {
    /// The type of columns whose value comes from a lookup: strings without a length of their own.
    pub const LOOKUP: Self = Self::String(u32::MAX);

    /// Tells whether values of this type are strings.
    pub fn is_string(self) -> bool {
        matches!(self, Self::String(_))
    }
}

impl FromStr for ColumnType {
    type Err = String;

    /// Reads a type as the catalog writes it. The error is a sentence without its subject.
    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is not a column type");
        let (name, arguments) = match text.split_once('(') {
            None => (text.trim(), None),
            Some((name, rest)) => match rest.trim_end().strip_suffix(')') {
                Some(arguments) => (name.trim(), Some(arguments)),
                None => return Err(format!("{} (a type with a comma has to stand in quotes)", unknown())),
            },
        };
        let numbers = match arguments {
            None => Vec::new(),
            Some(arguments) => arguments
                .split(',')
                .map(|number| number.trim().parse::<u32>())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| unknown())?,
        };
        match (name, numbers.as_slice()) {
            ("string", [length]) if (1..=MAX_STRING).contains(length) => Ok(Self::String(*length)),
            ("string", [_]) => Err(format!("`{text}` has a length outside 1 to {MAX_STRING}")),
            ("int", []) => Ok(Self::Int),
            ("bigint", []) => Ok(Self::BigInt),
            ("decimal", [precision, scale]) => decimal(text, *precision, *scale),
            ("date", []) => Ok(Self::Date),
            ("datetime", [digits]) => match u8::try_from(*digits) {
                Ok(digits) if digits <= 6 => Ok(Self::DateTime(digits)),
                _ => Err(format!("`{text}` has more than 6 fractional digits")),
            },
            ("bool", []) => Ok(Self::Bool),
            ("json", []) => Ok(Self::Json),
            _ => Err(unknown()),
        }
    }
}

fn decimal(text: &str, precision: u32, scale: u32) -> Result<ColumnType, String> {
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision @ 1..=65), Ok(scale @ 0..=30)) if scale <= precision => {
            Ok(ColumnType::Decimal { precision, scale })
        }
        _ => Err(format!(
            "`{text}` is not a decimal that MySQL has (1 to 65 digits, 0 to 30 of them, and no more than all, after \
             the point)"
        )),
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(u32::MAX) => formatter.write_str("string"),
            Self::String(length) => write!(formatter, "string({length})"),
            Self::Int => formatter.write_str("int"),
            Self::BigInt => formatter.write_str("bigint"),
            Self::Decimal { precision, scale } => write!(formatter, "decimal({precision},{scale})"),
            Self::Date => formatter.write_str("date"),
            Self::DateTime(digits) => write!(formatter, "datetime({digits})"),
            Self::Bool => formatter.write_str("bool"),
            Self::Json => formatter.write_str("json"),
        }
    }
}

impl Version {
    /// Returns the type of the version column; `None` when there is none.
    pub fn column_type(&self) -> Option<ColumnType> {
        match &self.source {
            VersionSource::Field { column_type, .. } => Some(*column_type),
            VersionSource::RecordTime => Some(ColumnType::DateTime(3)),
            VersionSource::Position => None,
        }
    }
}

impl ColumnSource {
    /// Tells whether the value comes from a lookup.
    pub fn is_lookup(&self) -> bool {
        matches!(self, Self::Lookup(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_and_written() {
        for (text, column_type) in [
            ("string(32)", ColumnType::String(32)),
            ("int", ColumnType::Int),
            ("bigint", ColumnType::BigInt),
            (
                "decimal(20,8)",
                ColumnType::Decimal {
                    precision: 20,
                    scale: 8,
                },
            ),
            (
                "decimal(65,30)",
                ColumnType::Decimal {
                    precision: 65,
                    scale: 30,
                },
            ),
            ("date", ColumnType::Date),
            ("datetime(0)", ColumnType::DateTime(0)),
            ("datetime(6)", ColumnType::DateTime(6)),
            ("bool", ColumnType::Bool),
            ("json", ColumnType::Json),
        ] {
            assert_eq!(text.parse(), Ok(column_type));
            assert_eq!(column_type.to_string(), text);
        }
        assert_eq!(
            "decimal( 20, 8 )".parse(),
            Ok(ColumnType::Decimal {
                precision: 20,
                scale: 8
            })
        );
    }

    #[test]
    fn what_is_no_type_is_refused() {
        let faulty = [
            "",
            "text",
            "string",
            "string()",
            "string(0)",
            "string(-1)",
            "string(16777216)",
            "string(4294967295)",
            "int(11)",
            "decimal",
            "decimal(8)",
            "decimal(66,2)",
            "decimal(0,0)",
            "decimal(10,31)",
            "decimal(2,3)",
            "decimal(20",
            "datetime",
            "datetime(7)",
            "datetime(300)",
            "String(3)",
            "bool()",
            "date(0)",
            "int x",
        ];
        for text in faulty {
            assert!(text.parse::<ColumnType>().is_err(), "{text}");
        }
    }
}
