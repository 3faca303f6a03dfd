//! From a complete chunk to what the ledger and the counters record of it.

use reprise_shared::catalog::{Catalog, TypeIndex};
use reprise_shared::ledger::{self, ChunkTally, Millis};

use crate::chunk::Completion;
use crate::metrics;
use crate::outcome::TypeTally;

/// Counts a complete chunk and returns its line for the ledger.
pub(crate) fn account(catalog: &Catalog, chunk: &Completion) -> ChunkTally {
    let tallies = chunk.tallies();
    let at = &chunk.stretch.topic_partition;
    let outcomes: u64 = tallies.iter().map(|(_, tally)| tally.records.consumed()).sum();
    let settled = tallies.iter().all(|(_, tally)| tally.produced == tally.rows.settled());
    if outcomes != chunk.records || !settled {
        tracing::error!(partition = %at, start = %chunk.start, end = %chunk.end, "outcomes do not add up");
        metrics::does_not_add_up();
    }
    for (data_type, tally) in &tallies {
        let name = data_type.map_or("", |index| catalog.data_type(index).name.as_str());
        metrics::accounted(at, name, &tally.records, tally.produced, &tally.rows);
    }
    metrics::consumed(at.topic.as_str(), at.partition.0, chunk.records);
    ChunkTally {
        start: chunk.start,
        end: chunk.end,
        whitelist: chunk.whitelist.version(),
        first_processed: Millis(chunk.delivered_at),
        last_processed: Millis(chunk.delivered_at),
        types: tallies.into_iter().filter_map(for_ledger).collect(),
    }
}

/// Returns the line of one type for the ledger; `None`: the chunk has no record of it.
pub(crate) fn for_ledger(
    (data_type, tally): (Option<TypeIndex>, TypeTally),
) -> Option<(Option<TypeIndex>, ledger::TypeTally)> {
    let (start, end) = tally.offsets?;
    let line = ledger::TypeTally {
        records: tally.records,
        rows: tally.rows,
        start,
        end,
        first_record: tally.record_time.map(|(first, _)| Millis(first)),
        last_record: tally.record_time.map(|(_, last)| Millis(last)),
    };
    Some((data_type, line))
}
