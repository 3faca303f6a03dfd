//! One row on its way to MySQL: its key, its place in the order of rows, and its values, packed into few allocations.

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

/// One row, complete: every lookup is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The primary key, encoded so that byte order is the order of the key columns: integers as 8 bytes big-endian
    /// with the sign bit flipped, text as its bytes and a NUL.
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
    use super::*;

    #[test]
    fn cells_come_back_as_they_were_pushed() {
        let cells = [Cell::Null, Cell::Int(-7), Cell::Text(""), Cell::Text("12.50"), Cell::Int(i64::MAX)];
        let mut writer = CellWriter::default();
        for cell in cells {
            writer.push(cell);
        }
        let packed = writer.take();
        assert_eq!(packed.iter().collect::<Vec<_>>(), cells);
        assert!(writer.take().is_empty());
    }
}
