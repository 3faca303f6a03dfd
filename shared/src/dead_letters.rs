//! Records and rows that cannot be written as they are.
//!
//! A letter belongs to one origin: data type, topic id, partition, offset and row number. Storing it again counts an
//! attempt and keeps the latest error, so redelivery is idempotent. The record's bytes are stored once, however many
//! of its rows are faulty. Letters are written on the connection, and inside the transaction, of the batch that they
//! belong to.

mod covered;
mod headers;
mod insert;
mod read;
mod resolve;

pub use covered::{close_processed, open_offsets};
pub use headers::headers_json;
pub use insert::{NewLetter, RecordBytes, insert};
pub use read::{Count, Origin, StoredLetter, StoredRecord, count, get, get_record, of_record};
pub use resolve::{Resolvable, close, find_resolvable, open_misses, park_misses_before};

/// What happens to a letter next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// It resolves itself when its lookup key appears.
    Retrying,
    /// It waits for a person.
    Parked,
    /// It went through the pipeline again. Failing again reopens it.
    Redriven,
    /// A person gave it up, or it is filtered now. Failing again leaves it so.
    Discarded,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Retrying, Self::Parked, Self::Redriven, Self::Discarded];

    /// Returns the stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retrying => "RETRYING",
            Self::Parked => "PARKED",
            Self::Redriven => "REDRIVEN",
            Self::Discarded => "DISCARDED",
        }
    }

    /// Reads a stored name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}
