//! `look`: what is in the tables, the ledger and the dead letters, and who is at work.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use reprise_shared::dead_letters;
use reprise_shared::ledger::Interval;
use reprise_shared::mysql;
use reprise_shared::tally::{RecordCounts, RowCounts};
use sqlx::AssertSqlSafe;

use super::counts::Ledger;
use super::screen::{heading, number, table};
use super::stack::Stack;

/// How many holes of a partition are written out.
const SHOWN_HOLES: usize = 3;

pub(super) async fn run(folder: &Path) -> Result<ExitCode> {
    let stack = Stack::open(folder)?;
    everything(&stack).await?;
    heading("Workers");
    workers(&stack).await?;
    Ok(ExitCode::SUCCESS)
}

/// Shows tables, ledger and dead letters.
pub(super) async fn everything(stack: &Stack) -> Result<()> {
    heading("Tables");
    tables(stack).await?;
    heading("Ledger: what became of which offsets");
    ledger(stack).await?;
    heading("Dead letters");
    letters(stack).await
}

async fn tables(stack: &Stack) -> Result<()> {
    let names: BTreeSet<&str> = stack
        .catalog
        .data_types
        .iter()
        .map(|data_type| data_type.table.as_str())
        .collect();
    let mut rows = Vec::new();
    for name in names {
        rows.push(vec![name.to_owned(), number(count(stack, name).await?)]);
    }
    table(&["table", "rows"], rows);
    Ok(())
}

/// Counts the rows of a table.
pub(super) async fn count(stack: &Stack, name: &str) -> Result<u64> {
    let query = format!("SELECT COUNT(*) FROM {}", mysql::quote(name));
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_one(&stack.pool)
        .await
        .with_context(|| format!("count the rows of {name}"))?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

async fn ledger(stack: &Stack) -> Result<()> {
    let (mut of_types, mut of_partitions) = (Vec::new(), Vec::new());
    for position in stack.positions().await? {
        let ledger = Ledger::read(stack, position.partition).await?;
        for (data_type, ranges) in &ledger.ranges {
            let (mut records, mut rows) = (RecordCounts::default(), RowCounts::default());
            for range in ranges {
                records += range.records;
                rows += range.rows;
            }
            of_types.push(vec![
                position.partition.to_string(),
                data_type.clone(),
                number(ranges.len() as u64),
                number(records.processed),
                number(records.filtered),
                number(records.dead_lettered),
                number(rows.written),
                number(rows.superseded),
            ]);
        }
        let holes = ledger.holes(position.end);
        of_partitions.push(vec![
            position.partition.to_string(),
            number(position.end),
            position.committed.map_or_else(|| "-".to_owned(), number),
            intervals(&ledger.covered()),
            if holes.is_empty() {
                "none".to_owned()
            } else {
                intervals(&holes)
            },
        ]);
    }
    let header = [
        "partition",
        "data type",
        "ranges",
        "processed",
        "filtered",
        "dead-lettered",
        "rows written",
        "superseded",
    ];
    table(&header, of_types);
    super::screen::say("");
    table(&["partition", "end", "committed", "coverage", "holes"], of_partitions);
    Ok(())
}

/// Writes intervals as `[0, 12) [20, 30) …`.
pub(super) fn intervals(intervals: &[Interval]) -> String {
    let mut texts: Vec<String> = intervals
        .iter()
        .take(SHOWN_HOLES)
        .map(|interval| format!("[{}, {})", number(interval.start.0), number(interval.end.0)))
        .collect();
    if intervals.len() > SHOWN_HOLES {
        texts.push(format!("… {} in all", intervals.len()));
    }
    texts.join(" ")
}

async fn letters(stack: &Stack) -> Result<()> {
    let counts = dead_letters::count(&stack.pool)
        .await
        .context("count the dead letters")?;
    let rows = counts.into_iter().map(|count| {
        let data_type = if count.data_type.is_empty() {
            "(none)".to_owned()
        } else {
            count.data_type
        };
        vec![
            data_type,
            count.class,
            format!("{:?}", count.state).to_lowercase(),
            number(count.letters),
        ]
    });
    table(&["data type", "class", "state", "letters"], rows);
    Ok(())
}

async fn workers(stack: &Stack) -> Result<()> {
    let fleet = stack.workers().await?;
    let rows = fleet.workers.into_iter().map(|worker| {
        let running = worker.partitions.iter().filter(|line| line.status == "running").count();
        let lag: u64 = worker
            .partitions
            .iter()
            .filter_map(|line| Some(line.end?.saturating_sub(line.position?)))
            .sum();
        vec![
            worker.worker,
            format!("{:?}", worker.role).to_lowercase(),
            worker.pid.to_string(),
            format!(
                "{running} of {} running",
                worker.partitions.len() + worker.partitions_left_out
            ),
            number(lag),
            worker
                .whitelist
                .applied
                .map_or_else(|| "-".to_owned(), |version| version.to_string()),
        ]
    });
    table(&["worker", "role", "pid", "partitions", "lag", "whitelist"], rows);
    Ok(())
}
