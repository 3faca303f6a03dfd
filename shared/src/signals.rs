//! SIGTERM and SIGINT: the first asks for an orderly shutdown, the second ends the process at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Returns a token that the first signal cancels. Needs a runtime.
pub fn shutdown() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    let wait = async move {
        for round in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if round > 0 {
                tracing::warn!("second signal: ending at once");
                std::process::exit(1);
            }
            tracing::info!("signal: shutting down in order");
            cancelled.cancel();
        }
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "outlives every supervisor: it must still hear the second signal"
    )]
    tokio::spawn(wait);
    Ok(token)
}
