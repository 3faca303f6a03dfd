//! Tells chunks what became of their pieces: one lock per chunk and batch, because the pieces of a chunk arrive
//! together.

use std::sync::Arc;

use reprise_shared::catalog::TypeIndex;
use reprise_shared::tally::RowCounts;

use crate::chunk::Chunk;
use crate::piece::{Letter, PendingRow};
use crate::sink::Work;
use crate::sink::work::{count, is_row_level};

/// Settles a committed batch; returns how many pieces that were.
pub(super) fn committed(work: Work) -> usize {
    let pieces = work.pieces();
    let Work {
        data_type,
        batch,
        letters,
    } = work;
    if let Some(data_type) = data_type {
        let fates = batch.fates();
        settle_runs(
            data_type,
            batch.into_rows().into_iter().zip(fates).map(|(row, fate)| {
                let mut counts = RowCounts::default();
                count(&mut counts, fate);
                (row.chunk, counts)
            }),
        );
    }
    for letter in letters {
        match letter.data_type {
            Some(data_type) if is_row_level(&letter) => {
                letter.chunk.settle_rows(
                    data_type,
                    RowCounts {
                        dead_lettered: 1,
                        ..RowCounts::default()
                    },
                );
            }
            _ => letter.chunk.settle_letter(),
        }
    }
    pieces
}

/// Drops rows and letters of a stopped type; returns how many.
pub(super) fn deferred(rows: Vec<PendingRow>, letters: Vec<Letter>) -> usize {
    let pieces = rows.len() + letters.len();
    for row in rows {
        row.chunk.defer_row(row.data_type, row.record);
    }
    for letter in letters {
        match letter.data_type {
            Some(data_type) if is_row_level(&letter) => letter.chunk.defer_row(data_type, letter.record),
            Some(data_type) => letter.chunk.defer_letter(data_type, letter.record),
            // A letter without a type belongs to none that could be stopped.
            None => letter.chunk.settle_letter(),
        }
    }
    pieces
}

/// Adds up neighbours of one chunk and settles each run at once.
fn settle_runs(data_type: TypeIndex, rows: impl Iterator<Item = (Arc<Chunk>, RowCounts)>) {
    let mut run: Option<(Arc<Chunk>, RowCounts)> = None;
    for (chunk, counts) in rows {
        match &mut run {
            Some((running, sum)) if Arc::ptr_eq(running, &chunk) => *sum += counts,
            _ => {
                if let Some((ended, sum)) = run.replace((chunk, counts)) {
                    ended.settle_rows(data_type, sum);
                }
            }
        }
    }
    if let Some((ended, sum)) = run {
        ended.settle_rows(data_type, sum);
    }
}
