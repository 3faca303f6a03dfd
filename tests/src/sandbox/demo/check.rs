//! The demo's last question: does every count add up?

use anyhow::{Context as _, Result};
use reprise_shared::tally::RecordCounts;

use super::Before;
use crate::sandbox::counts::{Counters, Ledger};
use crate::sandbox::look::intervals;
use crate::sandbox::screen::{number, say, table};
use crate::sandbox::stack::{Position, Stack};

/// Shows what came of `published` records since `before`, and says whether all of it adds up.
pub(super) async fn run(stack: &Stack, before: &Before, after: &[Position], published: u64) -> Result<bool> {
    let counters = Counters::read(stack).await?;
    let (mut faults, mut lines) = (Vec::new(), Vec::new());
    let (mut in_topic, mut ledger_compared) = (0, true);
    for position in after {
        let judged = judge(stack, before, &counters, *position).await?;
        in_topic += judged.published;
        ledger_compared &= judged.ledger_compared;
        let name = |fault| format!("partition {}: {fault}", position.partition);
        faults.extend(judged.faults.iter().map(name));
        lines.push(judged.line(position.partition));
    }
    let header = [
        "partition",
        "published",
        "consumed",
        "processed",
        "filtered",
        "skipped",
        "deferred",
        "dead-lettered",
    ];
    table(&header, lines);
    if in_topic != published {
        faults.push(format!(
            "{published} records were published and {in_topic} stand in the topic"
        ));
    }
    faults.extend(fault_of_rows(&counters));
    say("");
    if !faults.is_empty() {
        faults.iter().for_each(|fault| say(format_args!("  NO   {fault}")));
        return Ok(false);
    }
    say(format_args!(
        "  yes  {} published = consumed = processed + filtered + skipped + deferred + dead-lettered",
        number(published)
    ));
    say("  yes  every row is written, superseded or a dead letter");
    say("  yes  coverage is whole, from 0 to the end of each partition");
    say(if ledger_compared {
        "  yes  the ledger's ranges sum up to the worker's counters"
    } else {
        "  -    the ledger holds several runs of the worker, so its sums are not those of one worker's counters"
    });
    Ok(true)
}

/// What was found in one partition.
struct Judged {
    published: u64,
    consumed: u64,
    outcomes: RecordCounts,
    ledger_compared: bool,
    faults: Vec<String>,
}

async fn judge(stack: &Stack, before: &Before, counters: &Counters, position: Position) -> Result<Judged> {
    let partition = position.partition;
    let start = before.positions.iter().find(|known| known.partition == partition);
    let published = position.end - start.map_or(0, |start| start.end);
    let consumed = counters
        .consumed(Some(partition))
        .checked_sub(before.counters.consumed(Some(partition)));
    let consumed = consumed.context("the worker was started again during the demo: its counters are new")?;
    let outcomes = difference(
        counters.records(Some(partition), None),
        before.counters.records(Some(partition), None),
    );
    let mut faults = Vec::new();
    if consumed != published {
        faults.push(format!("{published} records were published and {consumed} consumed"));
    }
    if outcomes.consumed() != consumed {
        faults.push(format!(
            "{consumed} records were consumed and {} have an outcome",
            outcomes.consumed()
        ));
    }
    let ledger = Ledger::read(stack, partition).await?;
    let holes = ledger.holes(position.end);
    if !holes.is_empty() {
        faults.push(format!("the coverage has holes: {}", intervals(&holes)));
    }
    let (sums, runs) = ledger.newest_run();
    // Counters are of this start of the worker, so they are comparable when it read the partition in one run.
    for (data_type, sums) in sums.into_iter().filter(|_| runs == 1) {
        let counted = (
            counters.records(Some(partition), Some(data_type)),
            counters.rows(Some(partition), Some(data_type)),
        );
        if sums != counted {
            faults.push(format!(
                "{data_type}: the ledger sums up to {sums:?}, the counters to {counted:?}"
            ));
        }
    }
    Ok(Judged {
        published,
        consumed,
        outcomes,
        ledger_compared: runs == 1,
        faults,
    })
}

impl Judged {
    fn line(&self, partition: u16) -> Vec<String> {
        let counts = [
            self.published,
            self.consumed,
            self.outcomes.processed,
            self.outcomes.filtered,
            self.outcomes.skipped,
            self.outcomes.deferred,
            self.outcomes.dead_lettered,
        ];
        std::iter::once(partition.to_string())
            .chain(counts.map(number))
            .collect()
    }
}

fn fault_of_rows(counters: &Counters) -> Option<String> {
    let (produced, settled) = (counters.produced(), counters.rows(None, None).settled());
    (produced != settled).then(|| format!("{produced} rows were produced and {settled} have an outcome"))
}

fn difference(now: RecordCounts, before: RecordCounts) -> RecordCounts {
    RecordCounts {
        processed: now.processed.saturating_sub(before.processed),
        filtered: now.filtered.saturating_sub(before.filtered),
        skipped: now.skipped.saturating_sub(before.skipped),
        deferred: now.deferred.saturating_sub(before.deferred),
        dead_lettered: now.dead_lettered.saturating_sub(before.dead_lettered),
    }
}
