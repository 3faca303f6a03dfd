//! A rebuild's task: it reads all types of a partition and puts into the ledger where their records are. No row is written.
//!
//! Its ranges say that they come from a rebuild, and its coverage is attested and never merged with that of live traffic.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use reprise_shared::catalog::Catalog;
use reprise_shared::clock::Clock;
use reprise_shared::jobs::Claim;
use reprise_shared::ledger::{ChunkTally, Identity, Limits, Millis, PartitionLedger, RunId, Source, Writer};
use reprise_shared::position::Offset;
use reprise_shared::redis::Redis;
use reprise_shared::telemetry::chain;
use reprise_shared::whitelist::Version;

use crate::chunk::{Chunk, Completion};
use crate::decode_stage::Stage;
use crate::judge::Judge;
use crate::outcome::Outcome;
use crate::progress::account::for_ledger;

/// Counts chunk by chunk until the reader is gone.
pub(super) fn count<J: Judge>(stage: &Stage<J>, chunks: &Receiver<Arc<Chunk>>) {
    for chunk in chunks {
        let mut outcome = Outcome::default();
        // What a record's type cannot be told of counts without one.
        let _nothing_passes = stage.passing(&chunk, &mut outcome);
        chunk.count(|counted| counted.merge(&outcome));
        chunk.decoded();
    }
}

/// The ledger of one claim.
pub(super) struct Rebuilt {
    ledger: PartitionLedger,
    writer: Writer,
    clock: Clock,
}

impl Rebuilt {
    /// Begins a run of its own for a claim.
    pub(super) fn new(claim: &Claim, catalog: &Catalog, redis: Redis, limits: Limits, clock: Clock) -> Self {
        let identity = Identity {
            partition: claim.slice.topic_partition.clone(),
            topic_id: claim.slice.topic_id.clone(),
            run: RunId::new(format!("{}-{}-{}", claim.task.job, claim.task.number, claim.epoch.0)),
            source: Source::Rebuild,
        };
        let names: Arc<[String]> = catalog
            .data_types
            .iter()
            .map(|data_type| data_type.name.clone())
            .collect();
        Self {
            ledger: PartitionLedger::new(identity, names, limits),
            writer: Writer::new(redis, 1),
            clock,
        }
    }

    /// Adds a complete chunk.
    pub(super) fn add(&mut self, chunk: &Completion) {
        let tallies = chunk.tallies().into_iter().filter_map(for_ledger).collect();
        self.add_tally(chunk.start, chunk.end, Millis(chunk.delivered_at), tallies);
    }

    /// Adds what holds no record: the tail of a slice, whose end was confirmed.
    pub(super) fn add_empty(&mut self, start: Offset, end: Offset) {
        if start < end {
            let now = Millis(self.clock.now().as_millisecond());
            self.add_tally(start, end, now, Vec::new());
        }
    }

    fn add_tally(
        &mut self,
        start: Offset,
        end: Offset,
        processed: Millis,
        types: Vec<(
            Option<reprise_shared::catalog::TypeIndex>,
            reprise_shared::ledger::TypeTally,
        )>,
    ) {
        let chunk = ChunkTally {
            start,
            end,
            whitelist: Version(0),
            first_processed: processed,
            last_processed: processed,
            types,
        };
        if let Err(error) = self.ledger.add(&chunk) {
            // A fault of ours: the interval stays uncovered, which claims nothing that is not so.
            tracing::error!(%error, "the ledger refuses a chunk");
        }
    }

    /// Writes what Redis does not have. `false`: it could not be written now; nothing may move over it.
    pub(super) async fn write(&mut self) -> bool {
        let now = Millis(self.clock.now().as_millisecond());
        while self.ledger.durable_end() < self.ledger.added_end() {
            let Some(update) = self.ledger.pending(now) else { break };
            match self.writer.write(std::slice::from_ref(&update)).await.pop() {
                Some(Ok(())) => self.ledger.written(&update),
                Some(Err(error)) => {
                    tracing::warn!(error = %chain(&error), "the checkpoint waits for the ledger");
                    return false;
                }
                None => return false,
            }
        }
        true
    }
}
