//! reprise's command line, `reprisectl`.
//!
//! In this version it holds the frame alone: version and shell completions. Calls need the control plane's gRPC
//! services, which come with release 0.2.0.

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::{Shell, generate};

/// Talks to reprise's control plane.
#[derive(Debug, Parser)]
#[command(
    name = "reprisectl",
    version,
    after_help = "This release has no calls yet: they come with release 0.2.0, together with the control plane's gRPC services."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a script that completes reprisectl's words in your shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Runs one command.
pub fn run(arguments: &Arguments, output: &mut impl std::io::Write) {
    match arguments.command {
        Command::Completions { shell } => generate(shell, &mut Arguments::command(), "reprisectl", output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_name_the_program() {
        let arguments = Arguments::parse_from(["reprisectl", "completions", "bash"]);
        let mut script = Vec::new();
        run(&arguments, &mut script);
        assert!(String::from_utf8(script).unwrap().contains("reprisectl"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
