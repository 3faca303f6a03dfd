//! `down`: stops what `up` has started, and nothing else.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};

use super::state::{Recorded, StateFolder};
use crate::{
    cluster,
    servers::{self, Kind},
};

/// The arguments of `down`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Remove the data and the logs too, so that the next `up` begins empty.
    #[arg(long)]
    delete_data: bool,
}

pub(super) async fn run(folder: &StateFolder, arguments: &Arguments) -> Result<ExitCode> {
    // Services first: they end in good order only while their servers answer.
    let (servers, services): (Vec<_>, Vec<_>) = folder
        .recorded()?
        .into_iter()
        .partition(|process| is_server(&process.name));
    end_all(&services, cluster::STOP_LIMIT).await?;
    end_all(&servers, servers::STOP_LIMIT).await?;
    folder.forget()?;
    if arguments.delete_data {
        let place = folder.place();
        for path in Kind::ALL.into_iter().map(|kind| place.of(kind)).chain([place.logs()]) {
            if path.exists() {
                fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
    }
    eprintln!("the stack is down");
    Ok(ExitCode::SUCCESS)
}

fn is_server(name: &str) -> bool {
    Kind::ALL.into_iter().any(|kind| kind.name() == name)
}

/// Ends all of them at a time; a process that is gone, or whose pid went to another, is left alone.
async fn end_all(processes: &[Recorded], limit: std::time::Duration) -> Result<()> {
    let ends = processes
        .iter()
        .map(|process| process.identity.end(&process.name, limit));
    futures::future::join_all(ends).await.into_iter().collect()
}
