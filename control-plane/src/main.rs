//! `reprise-control-plane`: parses flags, and runs the server or one command.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use reprise_control_plane::command;
use reprise_shared::config::Flags;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves reprise's gRPC API, or runs one command.
#[derive(Debug, Parser)]
#[command(name = "reprise-control-plane", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the gRPC API; so does the program without a command.
    Serve(Flags),
    /// Brings reprise's own tables up to this version. Safe to run again, and by several processes at once.
    Migrate(Migrate),
}

#[derive(Debug, Args)]
struct Migrate {
    /// Also create the target tables of the shipped catalog, for demos and tests.
    #[arg(long)]
    demo_tables: bool,
    #[command(flatten)]
    config: Flags,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The process has not started a thread yet, so this is the first and only choice of a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(flags) => command::serve(&flags),
        Command::Migrate(migrate) => command::migrate(&migrate.config, migrate.demo_tables),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reprise-control-plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}
