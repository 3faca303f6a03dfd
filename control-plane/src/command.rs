//! What the program does for each of its commands.

use std::io::{Write as _, stdout};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use reprise_shared::config::{self, Flags, Sources};
use reprise_shared::{catalog, signals, telemetry};
use tokio::net::TcpListener;

use crate::arguments::{Arguments, Command, Health};
use crate::config::{Config, MigrateConfig};
use crate::health;
use crate::run::{Listeners, run as run_server};

/// Does what the command line says.
///
/// # Errors
/// What kept it from that.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(flags) => serve(&flags),
        Command::Migrate(migrate) => self::migrate(&migrate.config, migrate.demo_tables),
        Command::Health(asked) => ask_health(&asked),
    }
}

/// Serves until a signal.
fn serve(flags: &Flags) -> anyhow::Result<()> {
    let config: Config = config::load(&Sources::of_process(flags))?;
    if flags.dump_config {
        return write!(stdout(), "{}", config::dump(&config)?).context("print the configuration");
    }
    let catalog = Arc::new(catalog::load(&config.catalog)?);
    if flags.check_config {
        return say_valid();
    }
    telemetry::init(config.log.format, &config.log.filter)?;
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    runtime.block_on(async {
        let listeners = Listeners {
            grpc: bind(config.grpc.listen).await?,
            http: bind(config.http.listen).await?,
        };
        Ok(run_server(config, catalog, listeners, signals::shutdown()?).await?)
    })
}

/// Brings the schema to this version.
fn migrate(flags: &Flags, demo_tables: bool) -> anyhow::Result<()> {
    let config: MigrateConfig = config::load(&Sources::of_process(flags))?;
    if flags.dump_config {
        return write!(stdout(), "{}", config::dump(&config)?).context("print the configuration");
    }
    let catalog = catalog::load(&config.0.catalog)?;
    if flags.check_config {
        return say_valid();
    }
    telemetry::init(config.0.log.format, &config.0.log.filter)?;
    Ok(small_runtime()?.block_on(crate::migrate::run(&config.0, &catalog, demo_tables))?)
}

/// Asks a control plane whether it serves.
fn ask_health(asked: &Health) -> anyhow::Result<()> {
    let asking = health::wait_until_serving(&asked.address, asked.patience);
    let answer = small_runtime()?.block_on(asking);
    answer.with_context(|| format!("ask {} for its health", asked.address))?;
    writeln!(stdout(), "serving").context("print the answer")
}

/// One thread is enough for what only waits.
fn small_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("start the runtime")
}

fn say_valid() -> anyhow::Result<()> {
    writeln!(stdout(), "the configuration is valid").context("print the answer")
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))
}
