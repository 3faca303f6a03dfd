//! Why a record or row cannot be written as it is: one closed set of classes, stored with every dead letter.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The class of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FaultClass {
    /// The payload is larger than the record limit.
    RecordTooLarge,
    /// The payload is not UTF-8.
    InvalidUtf8,
    /// The payload is not JSON (also a lone surrogate, `NaN`, or text after the value).
    NotJson,
    /// Arrays and objects are nested more deeply than the limit.
    TooDeep,
    /// A named field stands twice in one object.
    DuplicateField,
    /// A field that is not optional is missing or null.
    MissingField,
    /// A field has another JSON type than declared.
    WrongType,
    /// A number has more digits, or is larger, than the column holds.
    OutOfRange,
    /// A string is longer than the column.
    TooLong,
    /// A date or time does not exist or has no zone.
    BadTime,
    /// A key ends in spaces.
    TrailingSpace,
    /// The version lies further ahead of now than `max_ahead`.
    VersionAhead,
    /// The Kafka key and the id in the payload disagree.
    KeyMismatch,
    /// The lookup has no value for the id. Resolves itself when the key appears.
    LookupMiss,
    /// The record matches no data type of its topic.
    Unmatched,
    /// The row alone does not fit into `max_allowed_packet`.
    RowTooLarge,
    /// MySQL refused a NULL.
    NullValue,
    /// A CHECK or foreign key refused the row.
    Constraint,
    /// MySQL refused a value for another reason of class data.
    BadValue,
}

impl FaultClass {
    /// Every class, in the order of the enum.
    pub const ALL: [Self; 19] = [
        Self::RecordTooLarge,
        Self::InvalidUtf8,
        Self::NotJson,
        Self::TooDeep,
        Self::DuplicateField,
        Self::MissingField,
        Self::WrongType,
        Self::OutOfRange,
        Self::TooLong,
        Self::BadTime,
        Self::TrailingSpace,
        Self::VersionAhead,
        Self::KeyMismatch,
        Self::LookupMiss,
        Self::Unmatched,
        Self::RowTooLarge,
        Self::NullValue,
        Self::Constraint,
        Self::BadValue,
    ];

    /// Returns the name as it is stored and counted, for example `LOOKUP_MISS`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RecordTooLarge => "RECORD_TOO_LARGE",
            Self::InvalidUtf8 => "INVALID_UTF8",
            Self::NotJson => "NOT_JSON",
            Self::TooDeep => "TOO_DEEP",
            Self::DuplicateField => "DUPLICATE_FIELD",
            Self::MissingField => "MISSING_FIELD",
            Self::WrongType => "WRONG_TYPE",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::TooLong => "TOO_LONG",
            Self::BadTime => "BAD_TIME",
            Self::TrailingSpace => "TRAILING_SPACE",
            Self::VersionAhead => "VERSION_AHEAD",
            Self::KeyMismatch => "KEY_MISMATCH",
            Self::LookupMiss => "LOOKUP_MISS",
            Self::Unmatched => "UNMATCHED",
            Self::RowTooLarge => "ROW_TOO_LARGE",
            Self::NullValue => "NULL_VALUE",
            Self::Constraint => "CONSTRAINT",
            Self::BadValue => "BAD_VALUE",
        }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One fault: its class and a sentence that names the field and what would be right, without the value itself
/// beyond a short, escaped excerpt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {message}")]
pub struct Fault {
    /// The class.
    pub class: FaultClass,
    /// What is wrong, for a person.
    pub message: String,
}

impl Fault {
    /// Makes a fault.
    pub fn new(class: FaultClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_are_the_serialised_names() {
        for class in FaultClass::ALL {
            assert_eq!(serde_json::to_string(&class).expect("a name"), format!("\"{class}\""));
        }
    }
}
