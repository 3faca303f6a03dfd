//! `reprise-control-plane`: parses flags, and runs the server or one command.

use std::process::ExitCode;

use clap::Parser as _;
use reprise_control_plane::arguments::Arguments;
use reprise_control_plane::command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The process has not started a thread yet, so this is the first and only choice of a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match command::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reprise-control-plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}
