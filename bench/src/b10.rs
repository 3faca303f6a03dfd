//! B10: instructions per record, counted by callgrind, so that a rise shows on any machine, busy or not.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::results::{self, Figure, Wanted};
use crate::steps::Step;

/// Over so many records.
const RECORDS: u64 = 100_000;
/// The sum over all steps may rise by this much over the baseline.
const RISE: f64 = 1.05;

type Steps = BTreeMap<String, f64>;

/// Counts every step. Compares with `results/b10-baseline.json`, which is written where it is missing or is to be set.
pub fn measure(set_baseline: bool) -> Result<Figure> {
    let steps = Step::ALL
        .into_iter()
        .map(|step| Ok((step.name().to_owned(), count(step)?)));
    let steps: Steps = steps.collect::<Result<_>>()?;
    eprintln!("B10: instructions per record: {steps:.0?}");
    let path = results::folder().join("b10-baseline.json");
    if set_baseline || !path.exists() {
        fs::create_dir_all(results::folder())?;
        fs::write(&path, serde_json::to_string_pretty(&steps)? + "\n").context("write the baseline")?;
    }
    let baseline: Steps = serde_json::from_str(&fs::read_to_string(&path)?).context("read the baseline")?;
    let risen: Vec<&String> = steps
        .iter()
        .filter(|(name, count)| baseline.get(*name).is_some_and(|base| **count > base * RISE))
        .map(|(name, _)| name)
        .collect();
    let bar = (baseline.values().sum::<f64>() * RISE).round();
    let what = "instructions per record in filter, keep, decode, lane and encode; no step may rise by more than 5 %";
    let raw = json!({ "steps": steps, "baseline": baseline, "risen": risen, "records": RECORDS });
    let sum = steps.values().sum();
    let mut figure = Figure::new("B10", what, vec![sum], "instructions", Wanted::AtMost, bar, raw.clone());
    figure.met &= risen.is_empty();
    Ok(figure)
}

/// Runs one step under callgrind and returns its instructions per record.
fn count(step: Step) -> Result<f64> {
    let folder = tempfile::tempdir().context("make a folder for callgrind")?;
    let out = folder.path().join("callgrind.out");
    let this = std::env::current_exe().context("find this program")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg("--toggle-collect=*reprise_bench::steps::measured*")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(this)
        .args(["step", step.name(), "--records", &RECORDS.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("run valgrind (Debian's package valgrind)")?;
    ensure!(
        output.status.success(),
        "valgrind failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = fs::read_to_string(&out).context("read callgrind's counts")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")));
    let total: f64 = line.context("callgrind wrote no sum")?.trim().parse()?;
    ensure!(total > 0.0, "callgrind did not see step {}", step.name());
    Ok((total / RECORDS as f64).round())
}
