//! `replay`: the figures of replay, and their results.

use anyhow::Result;

use crate::jobs::Bench;
use crate::only::Only;
use crate::{b4, b5, results};

/// The arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    only: Only,
    /// How many records the topic has.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// How many times each pair is measured.
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Print the figures and leave the files of results as they are.
    #[arg(long)]
    dry: bool,
}

/// Measures, writes the results, and returns whether every bar was met.
pub async fn run(arguments: Arguments) -> Result<bool> {
    let mut bench = Bench::new(arguments.records).await?;
    let mut figures = Vec::new();
    if arguments.only.wants(&["B4"]) {
        figures.push(b4::measure(&bench, arguments.pairs).await?);
    }
    if arguments.only.wants(&["B5"]) {
        figures.push(b5::measure(&mut bench, arguments.pairs).await?);
    }
    bench.stop().await?;
    if !arguments.dry {
        results::write(&figures)?;
    }
    eprintln!("\n{}", results::table(&figures));
    Ok(figures.iter().all(|figure| figure.met))
}
