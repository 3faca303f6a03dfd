//! Named OS threads whose end, also by a panic, is seen by an async task.

use std::io;
use std::panic::AssertUnwindSafe;

use tokio::sync::oneshot;

/// Why a thread failed.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// It panicked; the panic is in the log.
    #[error("the thread panicked")]
    Panicked,
    /// It ended with an error.
    #[error(transparent)]
    Failed(E),
}

/// The running thread's result, to be awaited. Dropping it lets the thread run on.
#[derive(Debug)]
pub(crate) struct Running<E>(oneshot::Receiver<Result<(), Error<E>>>);

impl<E> Running<E> {
    /// Waits for the thread's end. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Result<(), Error<E>> {
        (&mut self.0).await.unwrap_or(Err(Error::Panicked))
    }
}

/// Starts a thread. Fails when the system refuses one.
pub(crate) fn spawn<E: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> io::Result<Running<E>> {
    let (end, ended) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = match std::panic::catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => result.map_err(Error::Failed),
            Err(_) => Err(Error::Panicked),
        };
        // Nobody may be waiting any more.
        let _ = end.send(result);
    })?;
    Ok(Running(ended))
}
