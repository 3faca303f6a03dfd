//! B12: what the size of the whitelist costs per record.

use anyhow::Result;
use serde_json::json;

use crate::results::{Figure, Wanted};
use crate::steps::filter_pairs;

/// Ids of a short and of a long list.
const SIZES: [u32; 2] = [10, 100_000];
const RECORDS: u64 = 400_000;
const PAIRS: usize = 12;

/// Measures the filter over records in memory.
pub fn measure() -> Result<Figure> {
    let pairs = filter_pairs(RECORDS, SIZES, PAIRS)?;
    let runs = pairs.iter().map(|[few, many]| many.as_secs_f64() / few.as_secs_f64());
    let nanoseconds = |side: usize| -> Vec<f64> {
        let each = pairs.iter().map(|pair| pair[side].as_secs_f64() * 1e9 / RECORDS as f64);
        each.map(f64::round).collect()
    };
    let raw = json!({ "records": RECORDS, "ids": SIZES, "ns_per_record": [nanoseconds(0), nanoseconds(1)] });
    let what = "filter with 100,000 ids, against 10: time per record";
    Ok(Figure::new(
        "B12",
        what,
        runs.collect(),
        "ratio",
        Wanted::AtMost,
        1.1,
        raw,
    ))
}
