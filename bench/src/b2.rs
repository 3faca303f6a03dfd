//! B2: the worker drains the topic with one fund in a hundred whitelisted, against a bare consumer that only counts.

use anyhow::{Result, ensure};
use reprise_tests::feed::Fund;
use serde_json::json;

use crate::bare::consume;
use crate::drain::drain;
use crate::ground::{FUNDS, Ground};
use crate::results::{Figure, Wanted};

/// One fund in so many is let through.
const ONE_IN: u32 = 100;

/// Measures in pairs: worker, bare consumer, worker, bare consumer. Leaves the whitelist empty.
///
/// The worker's time ends with the last whitelisted row. Every fund comes once in each 2,000 records, so no more than
/// that many records can be left then.
pub async fn measure(ground: &mut Ground, pairs: usize) -> Result<Figure> {
    let ids: Vec<String> = (1..=FUNDS / ONE_IN)
        .map(|number| Fund(number * ONE_IN).performance_id())
        .collect();
    ground.fleet.set_whitelist(&ids).await?;
    let expected = ground.records / u64::from(ONE_IN);
    let (mut ratios, mut passes, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pairs {
        ground.reset().await?;
        let drained = drain(ground, expected).await?;
        let count = ground.rows().await?;
        ensure!(count == expected, "{count} rows, {expected} expected");
        let bare = tokio::task::block_in_place(|| consume(ground, |_| Ok(())))?;
        let ratio = bare.seconds / drained.seconds;
        eprintln!(
            "B2: worker {:.3} s, bare consumer {:.3} s, ratio {ratio:.3}; CPU-s per million: {:.2?} against {:.2}",
            drained.seconds, bare.seconds, drained.cpu_seconds_per_million, bare.cpu_seconds_per_million
        );
        ratios.push(ratio);
        passes.push(drained);
        bares.push(bare);
    }
    ground.fleet.set_whitelist(&[]).await?;
    let raw = json!({ "records": ground.records, "rows": expected, "worker": passes, "bare": bares });
    let what = "drain with 1 % whitelisted, share of a bare consumer's speed";
    Ok(Figure::new("B2", what, ratios, "ratio", Wanted::AtLeast, 0.80, raw))
}
