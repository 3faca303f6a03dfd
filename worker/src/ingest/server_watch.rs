//! Is the database still the server that acknowledged our writes?

use std::time::Duration;

use reprise_shared::mysql;
use sqlx::mysql::MySqlPool;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// How often it is asked: so long before a change is noticed, rows may have been acknowledged by the former server.
const INTERVAL: Duration = Duration::from_secs(5);

/// Asks until shutdown; a change raises an alarm (I1). Cancel-safe.
pub(super) async fn run(pool: MySqlPool, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        match shutdown.run_until_cancelled(mysql::note_server(&pool)).await {
            None => return,
            Some(Ok(None)) => {}
            Some(Ok(Some(change))) => {
                metrics::database_changed();
                tracing::error!(
                    previous = change.previous,
                    current = change.current,
                    previous_seen_at = change.previous_seen_at,
                    "the database is another server than before: rows that the former one acknowledged shortly before \
                     may be gone; replay what was processed since a few minutes before it was last seen"
                );
            }
            Some(Err(error)) => tracing::debug!(%error, "ask which server the database is"),
        }
    }
}
