//! B11: lookup queries per million records, from the passes of B1; one query a record would be a million.

use reprise_tests::fleet::sum;
use serde_json::json;

use crate::drain::Drained;
use crate::results::{Figure, Wanted};

/// Takes the counters of the passes of B1.
pub fn measure(passes: &[Drained], records: u64) -> Figure {
    let queries = |pass: &Drained| sum(&pass.metrics, "reprise_lookup_queries_total", &[]);
    let hits: Vec<f64> = passes
        .iter()
        .map(|pass| sum(&pass.metrics, "reprise_lookup_hits_total", &[]))
        .collect();
    let runs = passes.iter().map(|pass| queries(pass) * 1e6 / records as f64).collect();
    let raw = json!({ "records": records, "queries": passes.iter().map(queries).collect::<Vec<_>>(), "hits": hits });
    let what = "lookup queries per million records of 2,000 funds";
    Figure::new("B11", what, runs, "queries", Wanted::AtMost, 10.0, raw)
}
