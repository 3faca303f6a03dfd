//! The first pass of a job that cleans first: in place of decode and lanes, it deletes what the records that pass left.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use tokio_util::sync::CancellationToken;

use crate::chunk::Chunk;
use crate::decode_stage::Stage;
use crate::judge::Judge;
use crate::outcome::Outcome;
use crate::sink::clean::Cleaner;

/// Deletes chunk by chunk until the reader is gone, or until `abandon`.
pub(super) fn run<J: Judge>(
    stage: &Stage<J>,
    mut cleaner: Cleaner,
    chunks: &Receiver<Arc<Chunk>>,
    abandon: &CancellationToken,
) {
    for chunk in chunks {
        let mut outcome = Outcome::default();
        let passing = stage.passing(&chunk, &mut outcome);
        let mut left = passing.as_slice();
        while !left.is_empty() {
            let (part, later) = left.split_at(cleaner.most_records().min(left.len()));
            let deleted = cleaner.delete(&chunk.stretch, part, abandon);
            if stage.runtime.block_on(deleted).is_err() {
                return;
            }
            left = later;
        }
        chunk.count(|counted| counted.merge(&outcome));
        chunk.decoded();
    }
}
