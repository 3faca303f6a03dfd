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
/// Layout per cell: one tag byte (0 null, 1 int, 2 text), then nothing, 8 bytes little-endian, or a u32
/// little-endian length and the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells(Box<[u8]>);

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
pub struct CellWriter(Vec<u8>);

impl CellWriter {
    /// Appends a cell.
    pub fn push(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Null => self.0.push(0),
            Cell::Int(value) => {
                self.0.push(1);
                self.0.extend_from_slice(&value.to_le_bytes());
            }
            Cell::Text(text) => {
                self.0.push(2);
                let length = u32::try_from(text.len()).expect("a value comes from a record of at most 4 GiB");
                self.0.extend_from_slice(&length.to_le_bytes());
                self.0.extend_from_slice(text.as_bytes());
            }
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
        self.0.extend_from_slice(&other.0[places]);
    }

    /// Takes what was pushed and leaves the writer empty, its memory kept.
    pub fn take(&mut self) -> Cells {
        let cells = Cells(self.0.as_slice().into());
        self.0.clear();
        cells
    }
}

/// Iterates over packed cells.
#[derive(Debug)]
pub struct CellIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for CellIter<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        let (&tag, rest) = self.rest.split_first()?;
        match tag {
            0 => {
                self.rest = rest;
                Some(Cell::Null)
            }
            1 => {
                let (value, rest) = rest.split_first_chunk::<8>()?;
                self.rest = rest;
                Some(Cell::Int(i64::from_le_bytes(*value)))
            }
            _ => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                self.rest = rest;
                Some(Cell::Text(std::str::from_utf8(text).ok()?))
            }
        }
    }
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
        let mut parts = text.split('\0');
        self.0.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
        for part in parts {
            self.0.extend_from_slice(&[0x00, 0xFF]);
            self.0.extend_from_slice(part.as_bytes());
        }
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
