//! What the program does for each of its commands: load the configuration, bind, run.

use std::io::{Write as _, stdout};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use reprise_shared::config::{self, Flags, Sources};
use reprise_shared::{catalog, signals, telemetry};
use tokio::net::TcpListener;

use crate::config::{Config, MigrateConfig};
use crate::run::{Listeners, run};

/// Serves until a signal.
///
/// # Errors
/// What kept the server from starting, or ended it.
pub fn serve(flags: &Flags) -> anyhow::Result<()> {
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
        Ok(run(config, catalog, listeners, signals::shutdown()?).await?)
    })
}

/// Brings the schema to this version.
///
/// # Errors
/// What kept it from that.
pub fn migrate(flags: &Flags, demo_tables: bool) -> anyhow::Result<()> {
    let config: MigrateConfig = config::load(&Sources::of_process(flags))?;
    if flags.dump_config {
        return write!(stdout(), "{}", config::dump(&config)?).context("print the configuration");
    }
    if flags.check_config {
        return say_valid();
    }
    let catalog = catalog::load(&config.0.catalog)?;
    telemetry::init(config.0.log.format, &config.0.log.filter)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    Ok(runtime.block_on(crate::migrate::run(&config.0, &catalog, demo_tables))?)
}

fn say_valid() -> anyhow::Result<()> {
    writeln!(stdout(), "the configuration is valid").context("print the answer")
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))
}
