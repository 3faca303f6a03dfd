//! What decode hands to the lanes: rows, and letters for records that yield none.

use std::sync::Arc;

use reprise_shared::catalog::{LookupIndex, TypeIndex};
use reprise_shared::fault::Fault;
use reprise_shared::position::RowNumber;
use reprise_shared::row::Row;

use crate::chunk::{Chunk, RecordIndex};

/// A row on its way to the table of its type.
#[derive(Debug)]
pub struct PendingRow {
    /// The row; its number within the record is in its position.
    pub row: Row,
    /// Its data type.
    pub data_type: TypeIndex,
    /// The chunk that waits for it.
    pub chunk: Arc<Chunk>,
    /// Its record in that chunk.
    pub record: RecordIndex,
}

/// A dead letter on its way to the dead-letter table.
#[derive(Debug)]
pub struct Letter {
    /// Its data type; `None` when the record matched none.
    pub data_type: Option<TypeIndex>,
    /// The chunk that waits for it.
    pub chunk: Arc<Chunk>,
    /// Its record in that chunk.
    pub record: RecordIndex,
    /// The faulty row, or [`RowNumber::RECORD`].
    pub row: RowNumber,
    /// What is wrong.
    pub fault: Fault,
    /// The lookup and the key that it missed, for `LOOKUP_MISS`.
    pub missed: Option<(LookupIndex, String)>,
}

/// One piece of work for a lane.
#[derive(Debug)]
pub enum Piece {
    /// A row to upsert.
    Row(PendingRow),
    /// A letter to store.
    Letter(Letter),
}
