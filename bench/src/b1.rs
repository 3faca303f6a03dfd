//! B1: the worker drains the topic, all records let through, against the raw ceiling.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::ceiling::Rows;
use crate::drain::{Drained, drain};
use crate::ground::Ground;
use crate::results::{Figure, Wanted};

/// What stands in the table when a pass begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Nothing.
    Empty,
    /// Every row, and every row different.
    Changed,
}

impl Table {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Empty => ("B1", "drain into an empty table, share of the database's raw ceiling"),
            Self::Changed => ("B1-changed", "drain with every row changed, share of the raw ceiling"),
        }
    }

    async fn lay(self, ground: &Ground) -> Result<()> {
        match self {
            Self::Empty => ground.reset().await,
            Self::Changed => {
                ground.forget().await?;
                ground.change_rows().await
            }
        }
    }
}

/// Measures in pairs: worker, ceiling, worker, ceiling. [`Table::Changed`] needs a table that is full already.
/// Returns the figure and the worker's passes.
pub async fn measure(ground: &mut Ground, rows: &Rows, table: Table, pairs: usize) -> Result<(Figure, Vec<Drained>)> {
    let records = ground.records;
    let (mut ratios, mut passes, mut ceilings) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pairs {
        table.lay(ground).await?;
        let drained = drain(ground, records).await?;
        let count = ground.rows().await?;
        ensure!(count == records, "{count} rows after {records} records");
        table.lay(ground).await?;
        let written = rows.write(ground).await?;
        let ratio = written.seconds / drained.seconds;
        eprintln!(
            "{}: worker {:.2} s, ceiling {:.2} s, ratio {ratio:.3}; CPU-s per million: {:.2?} against {:.2?}",
            table.names().0,
            drained.seconds,
            written.seconds,
            drained.cpu_seconds_per_million,
            written.cpu_seconds_per_million,
        );
        ratios.push(ratio);
        passes.push(drained);
        ceilings.push(written);
    }
    let rate = |seconds: f64| (records as f64 / seconds).round();
    let raw = json!({
        "records": records,
        "mean_value_bytes": rows.mean_value.round(),
        "worker_rows_a_second": passes.iter().map(|pass| rate(pass.seconds)).collect::<Vec<_>>(),
        "ceiling_rows_a_second": ceilings.iter().map(|pass| rate(pass.seconds)).collect::<Vec<_>>(),
        "worker": passes,
        "ceiling": ceilings,
    });
    let (id, what) = table.names();
    let figure = Figure::new(id, what, ratios, "ratio", Wanted::AtLeast, 0.80, raw);
    Ok((figure, passes))
}
