//! `control`: the figures of the control plane, and their results.

use anyhow::Result;

use crate::{b6, results};

/// The arguments of `control`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print the figures and leave the files of results as they are.
    #[arg(long)]
    dry: bool,
}

/// Measures, writes the results, and returns whether every bar was met.
pub async fn run(arguments: Arguments) -> Result<bool> {
    let figures = [b6::measure().await?, b6::measure_untold().await?];
    if !arguments.dry {
        results::write(&figures)?;
    }
    eprintln!("\n{}", results::table(&figures));
    Ok(figures.iter().all(|figure| figure.met))
}
