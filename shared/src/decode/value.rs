//! From the raw text of one JSON value to one cell, strictly by its declared type.

use std::borrow::Cow;
use std::fmt;

use super::decimal::DecimalType;
use super::time::{self, DateTimeType};
use super::visit::{Kind, Slot};
use crate::fault::{Fault, FaultClass};
use crate::row::{Cell, CellWriter};

/// The most characters of a value that a fault shows.
const EXCERPT: usize = 40;

/// A column's type, ready to convert.
#[derive(Clone, Debug)]
pub(super) enum ValueType {
    String { max_characters: usize },
    Int,
    BigInt,
    Decimal(DecimalType),
    Date,
    DateTime(DateTimeType),
    Bool,
    Json,
}

/// Why a value cannot be a cell: its class, and what would be right.
#[derive(Debug)]
pub(super) struct Mismatch {
    class: FaultClass,
    expected: Cow<'static, str>,
}

impl Mismatch {
    pub(super) fn new(class: FaultClass, expected: impl Into<Cow<'static, str>>) -> Self {
        Self {
            class,
            expected: expected.into(),
        }
    }

    /// Makes the fault: which field, what stands there, what would be right.
    pub(super) fn into_fault(self, pointer: &str, raw: Raw<'_>) -> Fault {
        Fault::new(
            self.class,
            format!(
                "{} is {}; expected {}",
                Shown(pointer),
                Excerpt(raw.text),
                self.expected
            ),
        )
    }
}

impl ValueType {
    /// Converts a value that is not null and pushes its cell; nothing is pushed when it does not fit.
    /// `scratch` is memory to reuse.
    pub(super) fn push(&self, raw: Raw<'_>, scratch: &mut String, cells: &mut CellWriter) -> Result<(), Mismatch> {
        match self {
            Self::String { max_characters } => {
                let text = string(raw)?;
                // A text never has more characters than bytes.
                if text.len() > *max_characters && text.chars().count() > *max_characters {
                    return Err(Mismatch::new(
                        FaultClass::TooLong,
                        format!("at most {max_characters} characters"),
                    ));
                }
                cells.push(Cell::Text(&text));
            }
            Self::Int => {
                let value = integer(raw.text)?;
                if i32::try_from(value).is_err() {
                    return Err(Mismatch::new(FaultClass::OutOfRange, "an integer of 32 bits"));
                }
                cells.push(Cell::Int(value));
            }
            Self::BigInt => cells.push(Cell::Int(integer(raw.text)?)),
            Self::Decimal(decimal) => {
                let text = if Kind::of(raw.text) == Kind::String {
                    string(raw)?
                } else {
                    Cow::Borrowed(raw.text)
                };
                if let Some(plain) = decimal.as_it_stands(&text) {
                    cells.push(Cell::Text(plain));
                    return Ok(());
                }
                decimal.convert(&text, scratch).map_err(|class| {
                    let (precision, scale) = (decimal.precision, decimal.scale);
                    Mismatch::new(
                        class,
                        format!("a number that fits decimal({precision},{scale}) exactly"),
                    )
                })?;
                cells.push(Cell::Text(scratch));
            }
            Self::Date => {
                let text = string(raw)?;
                if !time::is_date(&text) {
                    return Err(Mismatch::new(FaultClass::BadTime, "a date such as 2024-03-07"));
                }
                cells.push(Cell::Text(&text));
            }
            Self::DateTime(date_time) => {
                let moment = date_time
                    .read(&string(raw)?)
                    .map_err(|expected| Mismatch::new(FaultClass::BadTime, expected))?;
                cells.push(Cell::Text(moment.as_str()));
            }
            Self::Bool => match raw.text {
                "true" => cells.push(Cell::Int(1)),
                "false" => cells.push(Cell::Int(0)),
                _ => return Err(Mismatch::new(FaultClass::WrongType, "true or false")),
            },
            Self::Json => cells.push(Cell::Text(raw.text)),
        }
        Ok(())
    }
}

/// The text of a JSON value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'p> {
    pub(super) text: &'p str,
    /// It is a string without escapes.
    plain: bool,
}

/// Reads a JSON string, borrowed when it has no escapes.
pub(super) fn string(raw: Raw<'_>) -> Result<Cow<'_, str>, Mismatch> {
    if raw.plain {
        return Ok(Cow::Borrowed(&raw.text[1..raw.text.len() - 1]));
    }
    if Kind::of(raw.text) != Kind::String {
        return Err(Mismatch::new(FaultClass::WrongType, "a string"));
    }
    match serde_json::from_str(raw.text) {
        Ok(text) => Ok(Cow::Owned(text)),
        Err(_) => Err(Mismatch::new(FaultClass::NotJson, "a string with valid escapes")),
    }
}

/// Reads a JSON integer; one written with a point or an exponent is none.
pub(super) fn integer(raw: &str) -> Result<i64, Mismatch> {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Mismatch::new(
            FaultClass::WrongType,
            "an integer without point or exponent",
        ));
    }
    raw.parse()
        .map_err(|_| Mismatch::new(FaultClass::OutOfRange, "an integer of 64 bits"))
}

/// A value that a pointer names, null left out.
pub(super) enum Named<'p> {
    /// Missing, or null.
    Nothing,
    /// Its raw text.
    Raw(Raw<'p>),
}

/// Resolves what stands at a pointer; a field that is doubled or out of reach is a fault, also an optional one.
pub(super) fn named<'p>(slot: Slot, pointer: &str, payload: &'p str) -> Result<Named<'p>, Fault> {
    let pointer = Shown(pointer);
    match slot {
        Slot::Absent => Ok(Named::Nothing),
        Slot::At { start, end, plain } => match payload.get(start as usize..end as usize) {
            None | Some("null") => Ok(Named::Nothing),
            Some(text) => Ok(Named::Raw(Raw { text, plain })),
        },
        Slot::Duplicate => {
            let message = format!("{pointer} stands twice; expected each named member once in its object");
            Err(Fault::new(FaultClass::DuplicateField, message))
        }
        Slot::Blocked(kind) => {
            let message = format!("{pointer} cannot be reached: {kind} stands on its way; expected an object there");
            Err(Fault::new(FaultClass::WrongType, message))
        }
        Slot::Rows => Ok(Named::Nothing),
    }
}

/// Makes the fault for a field that is missing or null.
pub(super) fn missing(pointer: &str) -> Fault {
    Fault::new(
        FaultClass::MissingField,
        format!("{} is missing or null; expected a value", Shown(pointer)),
    )
}

/// A pointer in a message; the empty one names the whole value.
pub(super) struct Shown<'a>(pub(super) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "the value" } else { self.0 })
    }
}

/// The beginning of a value, with control characters escaped.
pub(super) struct Excerpt<'a>(pub(super) &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = EXCERPT;
        let mut characters = self.0.chars().peekable();
        while let Some(character) = characters.next() {
            // Letters and signs show as they are, all else as \u{…}; quotes and backslashes are JSON's own.
            let plain = matches!(character, '"' | '\'' | '\\');
            let width = if plain { 1 } else { character.escape_debug().count() };
            let after = if characters.peek().is_some() { 1 } else { 0 };
            if width + after > room {
                return formatter.write_str("…");
            }
            room -= width;
            if plain {
                write!(formatter, "{character}")?
            } else {
                write!(formatter, "{}", character.escape_debug())?
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_escaped() {
        assert_eq!(Excerpt(r#""a\"b'é""#).to_string(), r#""a\"b'é""#);
        assert_eq!(Excerpt("[\n1\u{7f}\u{202e}]").to_string(), r"[\n1\u{7f}\u{202e}]");
        for text in ["x".repeat(40), "x".repeat(41), "\u{1}".repeat(40), "é".repeat(1000)] {
            assert!(Excerpt(&text).to_string().chars().count() <= EXCERPT, "{text}");
        }
        assert_eq!(Excerpt(&"x".repeat(40)).to_string(), "x".repeat(40));
        assert_eq!(Excerpt(&"x".repeat(41)).to_string(), format!("{}…", "x".repeat(39)));
    }
}
