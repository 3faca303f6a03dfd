//! B7: what the ledger costs Redis: bytes for a million offsets, and calls per partition and tick.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use reprise_tests::fleet::sum;
use serde_json::json;

use crate::drain::drain;
use crate::ground::{Ground, PARTITIONS};
use crate::results::{Figure, Wanted};

/// Measures one pass of the worker. Redis is this run's own, so nobody else calls it.
pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    ground.reset().await?;
    let before = calls(ground).await?;
    let drained = drain(ground, ground.records).await?;
    let used: BTreeMap<String, f64> = calls(ground)
        .await?
        .into_iter()
        .map(|(command, count)| {
            let earlier = before.get(&command).copied().unwrap_or(0.0);
            (command, count - earlier)
        })
        .filter(|(_, count)| *count > 0.0)
        .collect();
    let of = |names: &[&str]| -> f64 { names.iter().filter_map(|name| used.get(*name)).sum() };
    // Of what a worker calls, only the ledger is a script; what scripts call inside is listed in `raw` as well.
    let ledger = of(&["evalsha", "eval", "script|load"]);
    let ticks = sum(
        &drained.metrics,
        "reprise_tick_steps_total",
        &[("step", "write ledger")],
    );
    let per_tick = ledger / ticks / f64::from(PARTITIONS);
    let mut bytes = 0.0;
    let mut connection = ground.redis().await?;
    let keys = ground.ledger_keys().await?;
    for key in &keys {
        let usage: u64 = redis::cmd("MEMORY")
            .arg("USAGE")
            .arg(key)
            .arg("SAMPLES")
            .arg(0)
            .query_async(&mut connection)
            .await?;
        bytes += usage as f64;
    }
    let kib = bytes / 1_024.0 * 1e6 / ground.records as f64;
    eprintln!(
        "B7: {kib:.1} KiB in {} keys; {ledger} calls in {ticks} ticks; all: {used:?}",
        keys.len()
    );
    let raw = json!({
        "records": ground.records,
        "keys": keys.len(),
        "ticks": ticks,
        "ledger_calls": ledger,
        "ledger_calls_per_million_offsets": ledger * 1e6 / ground.records as f64,
        "heartbeat_calls": { "set": of(&["set"]), "zadd_with_those_of_the_ledger": of(&["zadd"]) },
        "whitelist_calls": { "get": of(&["get"]), "hgetall": of(&["hgetall"]), "hmget": of(&["hmget"]), "hget": of(&["hget"]) },
        "all_commands_those_inside_scripts_too": used,
    });
    Ok(vec![
        Figure::new(
            "B7-bytes",
            "ledger in Redis for a million offsets",
            vec![kib],
            "KiB",
            Wanted::AtMost,
            64.0,
            raw.clone(),
        ),
        Figure::new(
            "B7-calls",
            "Redis calls of the ledger per partition and tick",
            vec![per_tick],
            "calls",
            Wanted::AtMost,
            2.0,
            raw,
        ),
    ])
}

/// Reads how often each command was called so far.
async fn calls(ground: &Ground) -> Result<BTreeMap<String, f64>> {
    let mut connection = ground.redis().await?;
    let text: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut connection)
        .await
        .context("ask Redis for its counts")?;
    let lines = text.lines().filter_map(|line| {
        let (command, counts) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let calls = counts.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
        Some((command.to_owned(), calls))
    });
    Ok(lines.collect())
}
