//! `ingest`: the figures of the live path, one after the other, and their results.

use anyhow::{Context as _, Result};
use reprise_shared::catalog;

use crate::b1::Table;
use crate::ceiling::Rows;
use crate::ground::Ground;
use crate::only::Only;
use crate::results::Figure;
use crate::{b1, b2, b7, b9, b10, b11, b12, results};

/// The arguments of `ingest`.
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
    /// Take this run's instructions per record as the baseline of B10.
    #[arg(long)]
    set_baseline: bool,
    /// Print the figures and leave the files of results as they are.
    #[arg(long)]
    dry: bool,
}

/// Measures, writes the results, and returns whether every bar was met.
pub async fn run(arguments: Arguments) -> Result<bool> {
    let wants = |ids: &[&str]| arguments.only.wants(ids);
    let mut figures: Vec<Figure> = Vec::new();
    if wants(&["B10"]) {
        figures.push(tokio::task::block_in_place(|| b10::measure(arguments.set_baseline))?);
    }
    if wants(&["B12"]) {
        figures.push(tokio::task::block_in_place(b12::measure)?);
    }
    if wants(&["B1", "B2", "B7", "B9", "B11"]) {
        let mut ground = Ground::new(arguments.records).await?;
        if wants(&["B1", "B9", "B11"]) {
            let catalog = catalog::load(&ground.fleet.catalog_path()).context("load the catalog")?;
            let rows = tokio::task::block_in_place(|| Rows::read(&ground, &catalog))?;
            let (figure, passes) = b1::measure(&mut ground, &rows, Table::Empty, arguments.pairs).await?;
            figures.extend([figure, b9::peak(&passes), b11::measure(&passes, arguments.records)]);
            if wants(&["B1"]) {
                let changed = b1::measure(&mut ground, &rows, Table::Changed, arguments.pairs).await?;
                figures.push(changed.0);
            }
        }
        if wants(&["B2"]) {
            figures.push(b2::measure(&mut ground, arguments.pairs).await?);
        }
        if wants(&["B7"]) {
            figures.extend(b7::measure(&mut ground).await?);
        }
        if wants(&["B9"]) && ground.servers.mariadb.is_some() {
            figures.push(b9::outage(&mut ground).await?);
        }
    }
    if !arguments.dry {
        results::write(&figures)?;
    }
    eprintln!("\n{}", results::table(&figures));
    Ok(figures.iter().all(|figure| figure.met))
}
