//! `reprise-worker`: parses flags, loads config and catalog, and runs.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use reprise_shared::config::{self, Flags, Sources};
use reprise_shared::{catalog, signals, telemetry};
use reprise_worker::config::Config;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reads records from Kafka and writes them into MySQL through the whitelist.
#[derive(Debug, Parser)]
#[command(name = "reprise-worker", version)]
struct Command {
    #[command(flatten)]
    config: Flags,
}

fn main() -> ExitCode {
    match run(&Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "worker failed");
            eprintln!("reprise-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "answers of flags go to standard output")]
fn run(command: &Command) -> anyhow::Result<()> {
    // The process has not started a thread yet, so this is the first and only choice of a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config: Config = config::load(&Sources::of_process(&command.config))?;
    if command.config.dump_config {
        println!("{}", config::dump(&config)?);
        return Ok(());
    }
    let catalog = Arc::new(catalog::load(&config.catalog)?);
    if command.config.check_config {
        println!("valid: {} data types", catalog.data_types.len());
        return Ok(());
    }
    telemetry::init(config.log.format, &config.log.filter)?;
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    runtime.block_on(async {
        let listen = config.http.listen;
        let bound = TcpListener::bind(listen).await;
        let listener = bound.with_context(|| format!("listen on {listen}"))?;
        tracing::info!(http.address = %listener.local_addr()?, catalog.hash = catalog.hash, "worker starts");
        Ok(reprise_worker::run::run(config, catalog, listener, signals::shutdown()?).await?)
    })
}
