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
    /// A value, by its place in the payload. `plain`: it is a string without escapes.
    At { start: u32, end: u32, plain: bool },
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
        let first = raw.as_bytes().first().copied();
        first.and_then(Self::by_first_byte).unwrap_or(Self::Number)
    }

    /// Tells the kind of the value that begins with this byte; `None` when no value does.
    #[inline]
    pub(in crate::decode) fn by_first_byte(first: u8) -> Option<Self> {
        match first {
            b'{' => Some(Self::Object),
            b'[' => Some(Self::Array),
            b'"' => Some(Self::String),
            b't' | b'f' => Some(Self::Boolean),
            b'n' => Some(Self::Null),
            b'-' | b'0'..=b'9' => Some(Self::Number),
            _ => None,
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
