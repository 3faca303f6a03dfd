//! One row on its way to MySQL: its key, its place in the order of rows, and its values, packed into few allocations.

use std::ops::Range;

use crate::position::SourcePosition;

/// One value of a row, borrowed from the row's packed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// SQL NULL.
    Null,
    /// `int`, `bigint` and `bool` columns.
    Int(i64),
    /// Every other type, in the text form that MySQL reads exactly: decimals with their digits, dates as
    /// `2024-03-07`, times as `2024-03-07 09:30:00.000` in UTC.
    Text(&'a str),
}

/// The values of one row in insert order (see `DataType::insert_columns`), packed.
///
/// Everything is packed as text, so that a value is read without checking its UTF-8 again. Layout per cell: one byte
/// below 128 that tells what follows: nothing (null), ten bytes (an integer), ten bytes of length and a text, or a
/// short text whose length is that byte less 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells(Box<str>);

/// The first bytes of packed cells.
const NULL: u8 = 0;
const INT: u8 = 1;
const LONG_TEXT: u8 = 2;
const SHORT_TEXT: u8 = 3;

/// A text of more bytes is no short one.
const LONGEST_SHORT_TEXT: usize = (0x7F - SHORT_TEXT) as usize;

/// The bytes of a packed number.
const NUMBER: usize = 10;

impl Cells {
    /// Iterates over the values in insert order.
    pub fn iter(&self) -> CellIter<'_> {
        CellIter { rest: &self.0 }
    }

    /// Returns the packed size in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there is no cell at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Packs cells one by one; reusable.
#[derive(Default, Debug)]
pub struct CellWriter(String);

impl CellWriter {
    /// Appends a cell.
    pub fn push(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Null => self.push_byte(NULL),
            Cell::Int(value) => {
                self.push_byte(INT);
                self.push_number(value.cast_unsigned());
            }
            Cell::Text(text) => {
                if text.len() <= LONGEST_SHORT_TEXT {
                    self.push_byte(SHORT_TEXT + text.len() as u8);
                } else {
                    self.push_byte(LONG_TEXT);
                    self.push_number(text.len() as u64);
                }
                self.0.push_str(text);
            }
        }
    }

    /// Appends a byte below 128.
    fn push_byte(&mut self, byte: u8) {
        self.0.push(char::from(byte));
    }

    /// Appends a number in groups of 7 bits, the lowest first, so that all bytes are below 128.
    fn push_number(&mut self, number: u64) {
        for group in 0..NUMBER {
            self.push_byte((number >> (7 * group)) as u8 & 0x7F);
        }
    }

    /// Returns the packed size of what was pushed, in bytes: where the next cell will begin.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what was pushed from this place on, which must be one that [`len`](Self::len) returned.
    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// Returns the cell that begins at a place that [`len`](Self::len) returned before it was pushed.
    pub fn cell_at(&self, start: usize) -> Option<Cell<'_>> {
        CellIter {
            rest: self.0.get(start..)?,
        }
        .next()
    }

    /// Appends cells of another writer, given by the places between which they stand.
    ///
    /// # Panics
    /// When the places are not within the other writer.
    pub fn extend_from(&mut self, other: &Self, places: Range<usize>) {
        self.0.push_str(&other.0[places]);
    }

    /// Takes what was pushed and leaves the writer empty, its memory kept.
    pub fn take(&mut self) -> Cells {
        let cells = Cells(self.0.as_str().into());
        self.0.clear();
        cells
    }
}

/// Iterates over packed cells.
#[derive(Debug)]
pub struct CellIter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for CellIter<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        let (&first, rest) = self.rest.as_bytes().split_first()?;
        let text = |start: usize, length| {
            let end = start.checked_add(length)?;
            Some((Cell::Text(self.rest.get(start..end)?), end))
        };
        let (cell, end) = match first {
            NULL => (Cell::Null, 1),
            INT => (Cell::Int(number(rest)?.cast_signed()), 1 + NUMBER),
            LONG_TEXT => text(1 + NUMBER, usize::try_from(number(rest)?).ok()?)?,
            SHORT_TEXT.. => text(1, usize::from(first - SHORT_TEXT))?,
        };
        self.rest = self.rest.get(end..)?;
        Some(cell)
    }
}

/// Reads a packed number.
fn number(packed: &[u8]) -> Option<u64> {
    let groups = packed.first_chunk::<NUMBER>()?.iter().rev();
    Some(groups.fold(0, |number, group| number << 7 | u64::from(*group)))
}

/// Encodes keys, one column after the other, so that byte order is the order of the columns' values; reusable.
///
/// - Integers: 8 bytes big-endian with the sign bit flipped.
/// - Text: its UTF-8 bytes, each NUL as `00 FF`, then `00 00`. So a text sorts before its continuations, a NUL before
///   every other character, and no text runs into the next column.
/// - Decimals: a sign byte (`00` below zero, `01` otherwise) and all digits of the declared type without the point,
///   filled up with zeros on both sides; below zero each digit `d` stands as `9 - d`. So `1.5` and `1.50` are one key.
#[derive(Default, Debug)]
pub struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// Appends an integer column.
    pub fn push_int(&mut self, value: i64) {
        self.0.extend_from_slice(&(value ^ i64::MIN).to_be_bytes());
    }

    /// Appends a text column: strings, dates, and times that all have the same number of digits.
    pub fn push_text(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while let Some(end) = rest.iter().position(|&byte| byte == 0) {
            self.0.extend_from_slice(&rest[..end]);
            self.0.extend_from_slice(&[0x00, 0xFF]);
            rest = &rest[end + 1..];
        }
        self.0.extend_from_slice(rest);
        self.0.extend_from_slice(&[0x00, 0x00]);
    }

    /// Appends a decimal column: plain digits that fit into the type, with an optional `-` and an optional point.
    pub fn push_decimal(&mut self, text: &str, precision: u8, scale: u8) {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole = whole.trim_start_matches('0');
        self.0.push(u8::from(!negative));
        let digits = std::iter::repeat_n(b'0', usize::from(precision - scale).saturating_sub(whole.len()))
            .chain(whole.bytes())
            .chain(fraction.bytes())
            .chain(std::iter::repeat_n(
                b'0',
                usize::from(scale).saturating_sub(fraction.len()),
            ));
        self.0
            .extend(digits.map(|digit| if negative { b'0' + b'9' - digit } else { digit }));
    }

    /// Returns the size of what was pushed, in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes of what was pushed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends columns that are encoded already.
    pub fn push_encoded(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Forgets what was pushed from this place on.
    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// Takes what was pushed and leaves the writer empty, its memory kept.
    pub fn take(&mut self) -> Box<[u8]> {
        let key = self.0.as_slice().into();
        self.0.clear();
        key
    }
}

/// One row, complete: every lookup is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The primary key, encoded by [`KeyWriter`] so that byte order is the order of the key columns, and equal keys
    /// have equal bytes.
    pub key: Box<[u8]>,
    /// The version as a number: microseconds since 1970 for `datetime`, the value for `bigint`, Kafka's
    /// milliseconds for `record_time`, 0 for `position`. Cut to the declared digits before any comparison.
    pub version: i64,
    /// Breaks ties between equal versions.
    pub position: SourcePosition,
    /// The values in insert order, without the position column.
    pub cells: Cells,
}

impl Row {
    /// Tells whether this row wins over another of the same key: greater (version, position).
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.version, self.position) > (other.version, other.position)
    }

    /// Returns roughly how many bytes this row holds in memory.
    pub fn size(&self) -> usize {
        self.key.len() + self.cells.len() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A text from few characters, NUL among them, so that prefixes and ties are common.
    fn text() -> impl Strategy<Value = String> {
        "[\u{0}\u{1}ab\u{e9}\u{1f600}]{0,4}"
    }

    fn key((text, int): &(String, i64)) -> Box<[u8]> {
        let mut writer = KeyWriter::default();
        writer.push_text(text);
        writer.push_int(*int);
        writer.take()
    }

    fn decimal_key(units: i64) -> Box<[u8]> {
        let mut writer = KeyWriter::default();
        let (sign, units) = (if units < 0 { "-" } else { "" }, units.unsigned_abs());
        let text = format!("{sign}{}.{:03}", units / 1000, units % 1000);
        writer.push_decimal(text.trim_end_matches('0').trim_end_matches('.'), 20, 3);
        writer.take()
    }

    proptest! {
        #[test]
        fn byte_order_of_keys_is_the_order_of_their_columns(
            a in (text(), any::<i64>()),
            b in (text(), any::<i64>()),
            other: i64,
        ) {
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
            let (a, b) = ((a.0.clone(), a.1), (a.0, other));
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }

        #[test]
        fn byte_order_of_decimal_keys_is_their_order(a: i64, b: i64, c in -2000_i64..2000, d in -2000_i64..2000) {
            prop_assert_eq!(decimal_key(a).cmp(&decimal_key(b)), a.cmp(&b));
            prop_assert_eq!(decimal_key(c).cmp(&decimal_key(d)), c.cmp(&d));
        }
    }

    #[test]
    fn decimals_of_one_value_are_one_key() {
        let encode = |text: &str, precision, scale| {
            let mut writer = KeyWriter::default();
            writer.push_decimal(text, precision, scale);
            writer.take()
        };
        assert_eq!(encode("1.5", 4, 2), encode("01.50", 4, 2));
        assert_eq!(encode("0.5", 2, 2), encode(".50", 2, 2));
        assert_eq!(&*encode("-1.5", 4, 2), b"\x009849");
    }

    #[test]
    fn cells_are_read_and_dropped_by_their_place() {
        let mut writer = CellWriter::default();
        writer.push(Cell::Int(1));
        let second = writer.len();
        writer.push(Cell::Text("two"));
        assert_eq!(writer.cell_at(second), Some(Cell::Text("two")));
        let mut other = CellWriter::default();
        other.extend_from(&writer, second..writer.len());
        assert_eq!(other.take().iter().collect::<Vec<_>>(), [Cell::Text("two")]);
        writer.truncate(second);
        assert_eq!(writer.take().iter().collect::<Vec<_>>(), [Cell::Int(1)]);
    }

    #[test]
    fn cells_come_back_as_they_were_pushed() {
        let cells = [
            Cell::Null,
            Cell::Int(-7),
            Cell::Text(""),
            Cell::Text("12.50"),
            Cell::Int(i64::MAX),
            Cell::Int(i64::MIN),
            Cell::Text(&"\u{e9}".repeat(62)),
            Cell::Text(&"\u{e9}".repeat(63)),
            Cell::Text(&"x".repeat(100_000)),
            Cell::Null,
        ];
        let mut writer = CellWriter::default();
        for cell in cells {
            writer.push(cell);
        }
        let packed = writer.take();
        assert_eq!(packed.iter().collect::<Vec<_>>(), cells);
        assert!(writer.take().is_empty());
    }
}
