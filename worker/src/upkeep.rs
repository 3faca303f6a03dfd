//! What both roles run beside their pipeline.

use std::convert::Infallible;
use std::sync::Arc;

use reprise_shared::catalog::Catalog;
use reprise_shared::supervise::{OnCancel, OnError, Supervisor};
use reprise_shared::telemetry::chain;

use crate::lookup_changes::{self, Reporter};
use crate::ready::Ready;

/// Spawns a part that ends only with the worker.
pub(crate) fn task(
    supervisor: &Supervisor,
    name: &'static str,
    on_cancel: OnCancel,
    work: impl Future<Output = ()> + Send + 'static,
) {
    supervisor.spawn(name, OnError::ShutDown, on_cancel, async move {
        work.await;
        Ok::<_, Infallible>(())
    });
}

/// Starts what keeps lookups current; returns where lanes report changed keys.
pub(crate) fn lookups(supervisor: &Supervisor, catalog: &Arc<Catalog>, ready: &Ready) -> Reporter {
    let shutdown = supervisor.shutdown_token();
    let (lookups, redis) = (ready.lookups.clone(), ready.redis.clone());
    let (reporter, exchange) = lookup_changes::new(Arc::clone(catalog), lookups.clone(), redis);
    task(
        supervisor,
        "lookup changes",
        OnCancel::Abort,
        exchange.run(shutdown.clone()),
    );
    task(supervisor, "lookups", OnCancel::Abort, async move {
        if let Some(Err(error)) = shutdown.run_until_cancelled(lookups.preload()).await {
            tracing::warn!(error = %chain(&error), "preload lookups; they load as they are used");
        }
        lookups.run(shutdown).await;
    });
    reporter
}
