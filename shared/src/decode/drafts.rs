//! Rows whose lookups are not resolved yet, packed into memory that is reused from record to record.

use std::ops::Range;

use super::value::Excerpt;
use super::visit::Found;
use crate::catalog::LookupIndex;
use crate::fault::{Fault, FaultClass};
use crate::position::{RowNumber, SourcePosition};
use crate::row::{Cell, CellWriter, KeyWriter, Row};

/// The rows of one record, complete but for the values of lookups, and the faults of the rows that cannot be.
///
/// Filled by [`Decoder::decode`](super::Decoder::decode), which overwrites what was there and keeps the memory. A
/// draft stands on its own: it may be put aside while its lookups are loaded.
#[derive(Debug, Default)]
pub struct Drafts {
    pub(super) id: String,
    pub(super) rows: Vec<Draft>,
    pub(super) row_faults: Vec<(RowNumber, Fault)>,
    /// The cells of all rows, without those of lookups.
    pub(super) cells: CellWriter,
    /// The keys of all rows, without their lookup columns.
    pub(super) keys: KeyWriter,
    /// Where cells of lookups are missing, of all rows.
    pub(super) cell_gaps: Vec<Gap>,
    /// Where key columns of lookups are missing, of all rows.
    pub(super) key_gaps: Vec<Gap>,
    pub(super) scratch: Scratch,
    completed: CellWriter,
    completed_key: KeyWriter,
}

/// Memory that decoding one record needs.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) found: Found,
    pub(super) text: String,
    /// Where the cell of each column begins in the row at hand.
    pub(super) starts: Vec<usize>,
}

/// One row in packed form, by places in [`Drafts`].
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) version: i64,
    pub(super) position: SourcePosition,
    pub(super) cells: Range<usize>,
    pub(super) key: Range<usize>,
    pub(super) cell_gaps: Range<usize>,
    pub(super) key_gaps: Range<usize>,
}

/// A place in packed cells or keys where the value of a lookup belongs.
#[derive(Debug)]
pub(super) struct Gap {
    pub(super) at: usize,
    pub(super) lookup: LookupIndex,
}

impl Drafts {
    /// Returns the id of the record.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns how many rows await completion.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Tells whether no row awaits completion.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the rows that cannot be written, in ascending order, with the reason.
    pub fn row_faults(&self) -> &[(RowNumber, Fault)] {
        &self.row_faults
    }

    /// Takes the faults out, so that they need not be copied.
    pub fn take_row_faults(&mut self) -> Vec<(RowNumber, Fault)> {
        std::mem::take(&mut self.row_faults)
    }

    /// Returns roughly how many bytes the rows will take in memory, lookups left out.
    pub fn size(&self) -> usize {
        self.cells.len() + self.keys.len() + self.rows.len() * size_of::<Row>()
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.id.clear();
        self.rows.clear();
        self.row_faults.clear();
        self.cells.truncate(0);
        self.keys.truncate(0);
        self.cell_gaps.clear();
        self.key_gaps.clear();
    }

    /// Appends the finished rows to `out`, in the order of the record. `value` gives the value of each lookup of the
    /// data type for [`id`](Self::id); a lookup without a value is the caller's to handle before.
    ///
    /// # Errors
    /// [`FaultClass::TrailingSpace`] when a looked-up value ends in spaces and belongs to the key. All rows of a record
    /// have the same looked-up values, so it concerns the whole record, and `out` is left as it was.
    pub fn complete<'v>(&mut self, value: impl Fn(LookupIndex) -> &'v str, out: &mut Vec<Row>) -> Result<(), Fault> {
        if let Some(first) = self.rows.first() {
            for gap in &self.key_gaps[first.key_gaps.clone()] {
                let text = value(gap.lookup);
                if text.ends_with(' ') {
                    let message = format!(
                        "the looked-up key value is \"{}\"; expected no spaces at its end",
                        Excerpt(text)
                    );
                    return Err(Fault::new(FaultClass::TrailingSpace, message));
                }
            }
        }
        out.reserve(self.rows.len());
        for draft in &self.rows {
            let mut from = draft.cells.start;
            for gap in &self.cell_gaps[draft.cell_gaps.clone()] {
                self.completed.extend_from(&self.cells, from..gap.at);
                self.completed.push(Cell::Text(value(gap.lookup)));
                from = gap.at;
            }
            self.completed.extend_from(&self.cells, from..draft.cells.end);
            let keys = self.keys.as_bytes();
            let mut from = draft.key.start;
            for gap in &self.key_gaps[draft.key_gaps.clone()] {
                self.completed_key.push_encoded(&keys[from..gap.at]);
                self.completed_key.push_text(value(gap.lookup));
                from = gap.at;
            }
            self.completed_key.push_encoded(&keys[from..draft.key.end]);
            out.push(Row {
                key: self.completed_key.take(),
                version: draft.version,
                position: draft.position,
                cells: self.completed.take(),
            });
        }
        Ok(())
    }
}
