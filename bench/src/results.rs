//! Figures, and the two files they are written to: one for programs, one for people.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Its number in the design, with a suffix where one number has several.
    pub id: String,
    /// What it says, for people.
    pub what: String,
    /// The median over the runs.
    pub value: f64,
    /// What `value` counts.
    pub unit: String,
    /// What `value` has to keep.
    pub bar: f64,
    /// Whether it does.
    pub met: bool,
    /// The value of each run, in their order.
    pub runs: Vec<f64>,
    /// Everything that was read.
    pub raw: Value,
}

/// Which side of the bar is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The value must be at least the bar.
    AtLeast,
    /// The value must be at most the bar.
    AtMost,
}

impl Figure {
    /// Makes a figure from the values of its runs, of which there must be one.
    pub fn new(id: &str, what: &str, runs: Vec<f64>, unit: &str, wanted: Wanted, bar: f64, raw: Value) -> Self {
        let value = median(&runs);
        let met = match wanted {
            Wanted::AtLeast => value >= bar,
            Wanted::AtMost => value <= bar,
        };
        Self {
            id: id.to_owned(),
            what: what.to_owned(),
            value: rounded(value),
            unit: unit.to_owned(),
            bar,
            met,
            runs: runs.into_iter().map(rounded).collect(),
            raw,
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Returns the median, 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Returns where results lie.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("results")
}

/// Writes figures over those of the same id; the others stay as they are.
pub fn write(figures: &[Figure]) -> Result<()> {
    let folder = folder();
    fs::create_dir_all(&folder).context("create the folder of results")?;
    let path = folder.join("latest.json");
    let mut all: Vec<Figure> = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).context("read the last results")?,
        Err(_) => Vec::new(),
    };
    all.retain(|known| figures.iter().all(|figure| figure.id != known.id));
    all.extend_from_slice(figures);
    all.sort_by_key(|figure| sort_key(&figure.id));
    fs::write(&path, serde_json::to_string_pretty(&all)? + "\n").context("write the results")?;
    fs::write(folder.join("latest.md"), table(&all)).context("write the table")
}

/// `B10` comes after `B9`.
fn sort_key(id: &str) -> (u32, String) {
    let digits: String = id.chars().filter(char::is_ascii_digit).collect();
    (digits.parse().unwrap_or(0), id.to_owned())
}

/// Renders figures as a table.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::from("| # | what | value | bar | met | runs |\n|---|---|---|---|---|---|\n");
    for figure in figures {
        let runs: Vec<String> = figure.runs.iter().map(f64::to_string).collect();
        let met = if figure.met { "yes" } else { "**no**" };
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} {} | {} | {met} | {} |",
            figure.id,
            figure.what,
            figure.value,
            figure.unit,
            figure.bar,
            runs.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_middles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_bar_holds_on_its_own_side() {
        let figure = |wanted| Figure::new("B1", "", vec![0.8], "ratio", wanted, 0.8, Value::Null);
        assert!(figure(Wanted::AtLeast).met && figure(Wanted::AtMost).met);
        assert!(sort_key("B10") > sort_key("B9"));
    }
}
