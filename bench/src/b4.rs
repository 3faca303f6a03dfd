//! B4: some funds replayed out of all offsets, against replaying everything.

use anyhow::{Result, ensure};
use reprise_tests::feed::Fund;
use serde_json::json;

use crate::ground::FUNDS;
use crate::jobs::{Bench, seconds};
use crate::results::{Figure, Wanted};

/// How many funds are replayed: 1 %.
const SOME: u32 = FUNDS / 100;

/// Replays some funds and all funds in turns.
pub async fn measure(bench: &Bench, pairs: usize) -> Result<Figure> {
    let (mut ratios, mut raw) = (Vec::new(), Vec::new());
    let records = bench.ground.records;
    for _ in 0..pairs {
        let mut took = Vec::new();
        for funds in [SOME, FUNDS] {
            bench.ground.change_rows().await?;
            let ids = if funds == FUNDS {
                Vec::new()
            } else {
                (1..=funds).map(|fund| Fund(fund).performance_id()).collect()
            };
            let job = bench.ended(&bench.begin(ids).await?).await?;
            let rows = job.progress.as_ref().and_then(|progress| progress.rows);
            let updated = rows.map_or(0, |rows| rows.updated);
            ensure!(
                updated == records / u64::from(FUNDS) * u64::from(funds),
                "{updated} rows were written for {funds} funds"
            );
            let seconds = seconds(&job)?;
            raw.push(json!({ "funds": funds, "rows": updated, "seconds": seconds }));
            took.push(seconds);
        }
        ratios.push(took[1] / took[0]);
        eprintln!("B4: {SOME} funds in {:.2} s, all {FUNDS} in {:.2} s", took[0], took[1]);
    }
    let what = "time to replay all funds against 1 % of them";
    Ok(Figure::new(
        "B4",
        what,
        ratios,
        "times",
        Wanted::AtLeast,
        20.0,
        json!(raw),
    ))
}
