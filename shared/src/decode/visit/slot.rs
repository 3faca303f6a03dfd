//! What a visit notes of one pointer.

use std::fmt;

/// What stands at one pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) enum Slot {
    /// Nothing, or something above it is null.
    Absent,
    /// It, or something above it, stands twice in one object.
    Duplicate,
    /// Something above it is of a kind that has no members (or the value of `rows` is no array).
    Blocked(Kind),
    /// A value, by its place in the payload.
    At { start: u32, end: u32 },
    /// The array of `rows` was visited.
    Rows,
}

/// The kinds of JSON values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    /// Tells the kind of a value by its text, which is JSON.
    pub(in crate::decode) fn of(raw: &str) -> Self {
        match raw.as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}
