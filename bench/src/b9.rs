//! B9: the worker's memory: its peak while it drains, and what a database that does not answer adds to it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_tests::kernel::memory;
use reprise_tests::servers::Server as _;
use reprise_tests::wait::wait_for;
use serde_json::json;

use crate::drain::{Drained, written};
use crate::ground::Ground;
use crate::results::{Figure, Wanted};

/// How long the database is away.
const OUTAGE: Duration = Duration::from_secs(60);
/// How long the worker may take to begin, and to write what is left after the outage.
const PATIENCE: Duration = Duration::from_secs(180);

/// Takes the peaks of the passes of B1.
pub fn peak(passes: &[Drained]) -> Figure {
    let peaks: Vec<f64> = passes.iter().map(|pass| pass.peak_rss_mib).collect();
    let greatest = peaks.iter().copied().fold(0.0, f64::max);
    let raw = json!({ "greatest": greatest });
    let what = "peak memory of a worker under B1";
    Figure::new("B9-peak", what, peaks, "MiB", Wanted::AtMost, 200.0, raw)
}

/// Freezes MariaDB for a minute in the middle of a drain. Needs a MariaDB of this run's own.
pub async fn outage(ground: &mut Ground) -> Result<Figure> {
    ensure!(
        ground.servers.mariadb.is_some(),
        "MYSQL_URL names the database, and it is not ours to freeze"
    );
    ground.reset().await?;
    let number = ground.fleet.start_worker()?;
    let pid = ground.fleet.workers[number].pid().context("the worker has ended")?;
    let enough = ground.records as f64 / 20.0;
    wait_for("the drain to be under way", PATIENCE, async || {
        let metrics = ground.fleet.metrics(number).await.map_err(|error| error.to_string())?;
        let rows = written(&metrics);
        if rows >= enough {
            Ok(())
        } else {
            Err(format!("{rows} rows"))
        }
    })
    .await?;
    let mariadb = ground.servers.mariadb.as_mut().context("MariaDB is ours")?;
    mariadb.pause()?;
    let before = memory(pid)?;
    tokio::time::sleep(OUTAGE).await;
    let after = memory(pid)?;
    let in_flight = ground.fleet.metrics(number).await?;
    let mariadb = ground.servers.mariadb.as_mut().context("MariaDB is ours")?;
    mariadb.resume()?;
    ground.fleet.caught_up(PATIENCE).await?;
    ground.fleet.stop().await?;
    let count = ground.rows().await?;
    ensure!(count == ground.records, "{count} rows after the outage");
    let rise = after.peak - before.resident;
    eprintln!(
        "B9: {:.1} MiB before the outage, at most {:.1} during it",
        before.resident, after.peak
    );
    let raw = json!({
        "rss_before_mib": before.resident,
        "peak_before_mib": before.peak,
        "rss_at_the_end_mib": after.resident,
        "peak_at_the_end_mib": after.peak,
        "rows_in_flight": in_flight.get("reprise_in_flight_rows"),
        "bytes_in_flight": in_flight.get("reprise_in_flight_bytes"),
    });
    let what = "rise of a worker's memory in a 60 s outage of MySQL at full input";
    Ok(Figure::new(
        "B9-outage",
        what,
        vec![rise],
        "MiB",
        Wanted::AtMost,
        64.0,
        raw,
    ))
}
