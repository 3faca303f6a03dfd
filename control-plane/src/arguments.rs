//! The program's command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use reprise_shared::config::Flags;

/// Serves reprise's gRPC API, or runs one command.
#[derive(Debug, Parser)]
#[command(name = "reprise-control-plane", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Flags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves the gRPC API; so does the program without a command.
    Serve(Flags),
    /// Brings reprise's own tables up to this version. Safe to run again, and by several processes at once.
    Migrate(Migrate),
    /// Asks a control plane by gRPC whether it serves; the exit code is 0 if it does.
    Health(Health),
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Also create the target tables of the shipped catalog, for demos and tests.
    #[arg(long)]
    pub(crate) demo_tables: bool,
    #[command(flatten)]
    pub(crate) config: Flags,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Where its health and metrics are, which is without encryption.
    #[arg(long, default_value = "http://127.0.0.1:8090")]
    pub(crate) address: String,
    /// How long it is asked again while it does not serve, such as 10s.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) patience: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
