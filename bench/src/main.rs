//! `reprise-bench`: see [`reprise_bench`].

use std::process::ExitCode;

use clap::Parser;
use reprise_bench::{control, ingest, replay, steps};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures reprise on this machine.
#[derive(Debug, Parser)]
#[command(name = "reprise-bench", version)]
enum Command {
    /// The live path: B1, B2, B7, B9, B10, B11.
    Ingest(ingest::Arguments),
    /// The control plane: B6.
    Control(control::Arguments),
    /// Replay: B4, B5.
    Replay(replay::Arguments),
    /// One step of the live path over records in memory; what B10 runs under callgrind.
    #[command(hide = true)]
    Step(steps::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    // No client was made yet, so this is the first and only choice of a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match Command::parse() {
        Command::Ingest(arguments) => ingest::run(arguments).await,
        Command::Control(arguments) => control::run(arguments).await,
        Command::Replay(arguments) => replay::run(arguments).await,
        Command::Step(arguments) => steps::run(&arguments).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("reprise-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
