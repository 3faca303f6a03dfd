//! One pass of a real worker process over the topic.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_shared::clock::Clock;
use reprise_tests::fleet::{PATIENCE, sum};
use reprise_tests::kernel::memory;
use serde::Serialize;

use crate::ground::{Ground, Metrics};
use crate::process::CpuTimes;

/// How often the worker's metrics are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long one pass may take.
const LIMIT: Duration = Duration::from_secs(300);

/// What one pass of the worker took.
#[derive(Clone, Debug, Serialize)]
pub struct Drained {
    /// Seconds from the last look that saw nothing in flight to the first that saw every row durable: at most two
    /// looks too long, never too short.
    pub seconds: f64,
    /// CPU seconds per million records by process, over the same time.
    pub cpu_seconds_per_million: BTreeMap<String, f64>,
    /// The worker's peak of resident memory, start and commits included.
    pub peak_rss_mib: f64,
    /// The worker's counters after everything was committed.
    #[serde(skip)]
    pub metrics: Metrics,
}

/// Starts a worker, waits until `rows` rows are durable and everything is committed, and stops it in good order.
pub async fn drain(ground: &mut Ground, rows: u64) -> Result<Drained> {
    let clock = Clock::system();
    let number = ground.fleet.start_worker()?;
    let mut pids = ground.processes();
    let pid = ground.name_worker(number, &mut pids)?;
    let begun = wait(ground, number, &clock, &pids, |metrics| {
        written(metrics) > 0.0 || sum(metrics, "reprise_in_flight_bytes", &[]) > 0.0
    })
    .await
    .context("wait for the first record")?;
    let ended = wait(ground, number, &clock, &pids, |metrics| written(metrics) >= rows as f64)
        .await
        .context("wait for the last row")?;
    ground.fleet.caught_up(PATIENCE).await?;
    let peak_rss_mib = memory(pid)?.peak;
    let metrics = ground.fleet.metrics(number).await?;
    ground.fleet.stop().await?;
    let outcomes = sum(&metrics, "reprise_records_total", &[]);
    ensure!(
        outcomes == ground.records as f64,
        "{outcomes} outcomes for {} records",
        ground.records
    );
    Ok(Drained {
        seconds: ended.at.saturating_sub(begun.before).as_secs_f64(),
        cpu_seconds_per_million: ended.cpu.since(&begun.cpu_before, ground.records),
        peak_rss_mib,
        metrics,
    })
}

/// Returns how many rows the worker knows to be durable.
pub fn written(metrics: &Metrics) -> f64 {
    sum(metrics, "reprise_sink_rows_total", &[])
}

struct Moment {
    /// The last look at which it did not hold.
    before: Duration,
    cpu_before: CpuTimes,
    /// The first look at which it held.
    at: Duration,
    cpu: CpuTimes,
}

async fn wait(
    ground: &mut Ground,
    number: usize,
    clock: &Clock,
    pids: &[(String, i32)],
    holds: impl Fn(&Metrics) -> bool,
) -> Result<Moment> {
    let deadline = clock.monotonic() + LIMIT;
    let (mut before, mut cpu_before) = (clock.monotonic(), CpuTimes::of(pids)?);
    loop {
        // The worker serves metrics once it has started.
        let metrics = ground.fleet.metrics(number).await.unwrap_or_default();
        let (at, cpu) = (clock.monotonic(), CpuTimes::of(pids)?);
        if holds(&metrics) {
            return Ok(Moment {
                before,
                cpu_before,
                at,
                cpu,
            });
        }
        ensure!(
            at < deadline,
            "nothing after {LIMIT:?}\n{}",
            ground.fleet.log_of(number)
        );
        (before, cpu_before) = (at, cpu);
        tokio::time::sleep(LOOK).await;
    }
}
