//! The program behind `./dev`: a stack that stays, or servers for as long as one command runs.
//!
//! Each command is a file of its own with a `run`; a new one adds a variant to `Command` and a line to [`run`].

mod api;
mod counts;
mod demo;
mod down;
mod feed;
mod look;
mod prepare;
mod screen;
mod service;
mod stack;
mod state;
mod up;
mod whitelist;
mod with_servers;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

pub use self::state::{EndpointsFile, StateFolder};

/// The arguments of the sandbox.
#[derive(Debug, Parser)]
#[command(
    name = "sandbox",
    about = "Runs reprise on real Kafka, MySQL and Redis on this machine"
)]
pub struct Arguments {
    /// The folder of the stack: its data, its logs and `endpoints.json`.
    #[arg(long, global = true, default_value = ".dev")]
    folder: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the stack and leave it running; heals one that runs in part.
    Up,
    /// Stop the stack; its data stays for the next `up`.
    Down(down::Arguments),
    /// Start the stack, feed it, change the whitelist half-way, and check that every count adds up.
    Demo(demo::Arguments),
    /// Publish generated records, good and bad.
    Feed(feed::Arguments),
    /// Show or change the whitelist.
    #[command(subcommand)]
    Whitelist(whitelist::Arguments),
    /// Show tables, ledger, dead letters and workers.
    Look,
    /// Start servers, run a command with `KAFKA_BROKERS`, `MYSQL_URL` and `REDIS_URL` set, and stop them again.
    WithServers(with_servers::Arguments),
}

/// Runs one command, and returns the exit code of this process.
///
/// # Errors
/// The command failed.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    let folder = std::path::absolute(&arguments.folder).context("find the folder of the stack")?;
    match arguments.command {
        Command::Up => up::run(&StateFolder::open(folder)?).await.context("up"),
        Command::Down(arguments) => down::run(&StateFolder::open(folder)?, &arguments).await.context("down"),
        Command::Demo(arguments) => demo::run(&folder, &arguments).await.context("demo"),
        Command::Feed(arguments) => feed::run(&folder, arguments).await.context("feed"),
        Command::Whitelist(arguments) => whitelist::run(&folder, arguments).await.context("whitelist"),
        Command::Look => look::run(&folder).await.context("look"),
        Command::WithServers(arguments) => with_servers::run(arguments).await.context("with-servers"),
    }
}
