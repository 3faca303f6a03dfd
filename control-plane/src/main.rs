//! `reprise-control-plane`: parses flags, loads the config, and runs one command.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser};
use reprise_control_plane::{config::Config, migrate};
use reprise_shared::config::{self, Flags, Sources};
use reprise_shared::telemetry;

/// Manages reprise's database schema. The gRPC services (jobs, whitelist, dead letters) are not part of this version
/// yet.
#[derive(Debug, Parser)]
#[command(name = "reprise-control-plane", version)]
enum Command {
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
    let Command::Migrate(command) = Command::parse();
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reprise-control-plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Migrate) -> anyhow::Result<()> {
    // The process has not started a thread yet, so this is the first and only choice of a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config: Config = config::load(&Sources::of_process(&command.config))?;
    if command.config.dump_config {
        return write!(stdout(), "{}", config::dump(&config)?).context("print the configuration");
    }
    if command.config.check_config {
        return writeln!(stdout(), "the configuration is valid").context("print the answer");
    }
    telemetry::init(config.log.format, &config.log.filter)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    Ok(runtime.block_on(migrate::run(&config, command.demo_tables))?)
}
