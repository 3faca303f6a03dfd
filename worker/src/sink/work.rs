//! What a lane hands to its writer: a sealed batch of one type and the letters that go with it.

use reprise_shared::catalog::{Catalog, DataType, TypeIndex};
use reprise_shared::dead_letters::{NewLetter, RecordBytes, headers_json};
use reprise_shared::fault::FaultClass;
use reprise_shared::kafka::headers::unpack;
use reprise_shared::position::RowNumber;
use reprise_shared::row::Row;
use reprise_shared::tally::RowCounts;

use super::batch::{AsRow, Batch, Fate, Slot};
use super::breaker::Load;
use super::statement::Upsert;
use crate::chunk::{Chunk, RecordIndex};
use crate::piece::{Letter, PendingRow};

impl AsRow for PendingRow {
    fn as_row(&self) -> &Row {
        &self.row
    }
}

/// One transaction's worth of one type.
#[derive(Debug)]
pub struct Work {
    /// The type; `None` for letters of records that matched none, and then there are no rows.
    pub data_type: Option<TypeIndex>,
    /// The rows, sealed.
    pub batch: Batch<PendingRow>,
    /// Letters from decode.
    pub letters: Vec<Letter>,
}

impl Work {
    /// Returns how many pieces of work this settles.
    pub fn pieces(&self) -> usize {
        self.batch.rows().len() + self.letters.len()
    }

    /// Returns an upper bound of the packet bytes of the row that stands in a slot; 0 when none is left.
    pub(super) fn bytes(&self, upsert: &Upsert, slot: usize) -> usize {
        self.batch
            .row(Slot(slot))
            .map_or(0, |pending| upsert.row_bytes(&pending.row))
    }

    /// Returns what this adds to the breaker. Letters that resolve themselves have a bound of their own.
    pub(super) fn load(&self) -> Load {
        let poison = self
            .letters
            .iter()
            .filter(|letter| letter.fault.class != FaultClass::LookupMiss)
            .count();
        Load {
            dead: (poison + self.batch.rejects().len()) as u64,
            all: self.pieces() as u64,
        }
    }

    /// Borrows all letters of this attempt: those from decode and the rows that MySQL refused.
    /// `job_id` is that of the task, empty for live traffic.
    pub(super) fn new_letters<'a>(&'a self, catalog: &'a Catalog, job_id: &'a str) -> Vec<NewLetter<'a>> {
        let decoded = self.letters.iter().map(move |letter| NewLetter {
            data_type: type_name(catalog, letter.data_type),
            row: letter.row,
            class: letter.fault.class,
            error: &letter.fault.message,
            missed: letter
                .missed
                .as_ref()
                .map(|(lookup, key)| (catalog.lookup(*lookup).name.as_str(), key.as_str())),
            job_id,
            record: record_bytes(&letter.chunk, letter.record),
        });
        let refused = self.batch.rejects().iter().map(move |reject| {
            let pending = &self.batch.rows()[reject.row];
            NewLetter {
                data_type: type_name(catalog, Some(pending.data_type)),
                row: pending.row.position.row(),
                class: reject.fault.class,
                error: &reject.fault.message,
                missed: None,
                job_id,
                record: record_bytes(&pending.chunk, pending.record),
            }
        });
        decoded.chain(refused).collect()
    }
}

/// Tells whether a letter is about one row of a record that has others.
pub(crate) fn is_row_level(letter: &Letter) -> bool {
    letter.row != RowNumber::RECORD
}

/// Adds one row's fate to counts.
pub(crate) fn count(counts: &mut RowCounts, fate: Fate) {
    match fate {
        Fate::Written => counts.written += 1,
        Fate::Superseded => counts.superseded += 1,
        Fate::DeadLettered => counts.dead_lettered += 1,
    }
}

fn type_name(catalog: &Catalog, data_type: Option<TypeIndex>) -> &str {
    data_type
        .map(|index| catalog.data_type(index))
        .map_or("", |data_type: &DataType| data_type.name.as_str())
}

fn record_bytes(chunk: &Chunk, index: RecordIndex) -> RecordBytes<'_> {
    let record = chunk.record(index);
    RecordBytes {
        topic_id: &chunk.stretch.topic_id,
        topic: &chunk.stretch.topic_partition.topic,
        partition: chunk.stretch.topic_partition.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key,
        headers: headers_json(unpack(record.headers)),
        payload: record.payload,
        payload_size: record.payload_size,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use reprise_shared::catalog::{
        Batch as BatchLimits, Column, ColumnSource, ColumnType, DataType, Field, Pointer, Root, Version, VersionSource,
    };
    use reprise_shared::position::TopicName;

    /// A type with a text key, a decimal, a version and a position.
    pub(crate) fn fund_type(max_rows: usize) -> DataType {
        let field = |name: &str| Field {
            root: Root::Item,
            pointer: Pointer(vec![name.into()]),
        };
        let column = |name: &str, column_type, optional| Column {
            name: name.into(),
            source: ColumnSource::Field(field(name)),
            column_type,
            optional,
            round: false,
            zone: None,
        };
        DataType {
            name: "fund".into(),
            topic: TopicName::new("funds"),
            matcher: None,
            rows: None,
            id: Pointer(vec!["id".into()]),
            in_key: true,
            table: "t_fund".into(),
            key: vec![0],
            version: Version {
                source: VersionSource::Field {
                    field: field("time"),
                    column_type: ColumnType::DateTime(3),
                    zone: None,
                },
                column: Some("version".into()),
                position_column: "pos".into(),
                max_ahead: None,
            },
            columns: vec![
                column("code", ColumnType::String(16), false),
                column(
                    "amount",
                    ColumnType::Decimal {
                        precision: 10,
                        scale: 2,
                    },
                    true,
                ),
            ],
            batch: BatchLimits {
                max_rows,
                linger: Duration::from_millis(20),
            },
        }
    }
}
