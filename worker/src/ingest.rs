//! An ingest worker, put together.
//!
//! `work` starts the parts from the database end to the source, and stops them from the source to the database end.

mod parts;
mod server_watch;
mod stop;
mod watch;

use reprise_shared::health::Latch;

use crate::ready;
use crate::run::{Error, Life};

/// Reads live traffic until shutdown.
pub(crate) async fn work(life: Life<'_>, start: Latch) -> Result<(), Error> {
    let Some(ready) = ready::wait(&life).await? else {
        return Ok(());
    };
    let (config, shutdown) = (life.config, life.shutdown);
    let parts = parts::start(config, life.catalog, life.clock, life.readiness, life.supervisor, ready)?;
    start.ready();
    shutdown.cancelled().await;
    stop::in_order(parts, config.ingest.shutdown).await
}
