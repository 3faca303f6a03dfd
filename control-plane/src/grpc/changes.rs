//! Changes go on when their caller hangs up or its time is up: a handler's future is dropped then, a change is not.

use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::error::Error;

/// Runs changes to their end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Changes(TaskTracker);

impl Changes {
    /// Starts with none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a change and waits for it.
    ///
    /// # Errors
    /// Those of the change; INTERNAL when it panicked.
    ///
    /// Cancel-safe: dropped, the change goes on, and only nobody hears how it ended.
    pub async fn make<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let made = self.0.spawn(change.in_current_span()).await;
        made.unwrap_or_else(|panicked| {
            tracing::error!(error = %panicked, "a change panicked");
            Err(Error::internal())
        })
    }

    /// Waits for what is under way, at most so long, and tells whether all of it ended.
    pub async fn end(&self, limit: Duration) -> bool {
        self.0.close();
        tokio::time::timeout(limit, self.0.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_change_goes_on_when_its_caller_is_gone() {
        let changes = Changes::new();
        let (begin, begun) = oneshot::channel::<()>();
        let (done, made) = oneshot::channel();
        let call = changes.make(async move {
            let _ = begun.await;
            let _ = done.send(());
            Ok(())
        });
        // Polled once, so that it is under way, and dropped.
        assert!(tokio::time::timeout(Duration::ZERO, call).await.is_err());
        begin.send(()).expect("the change waits");
        made.await.expect("the change ends");
        assert!(changes.end(Duration::from_secs(10)).await);
    }

    #[tokio::test]
    async fn a_panic_is_answered() {
        let failed = Changes::new().make(async { panic!("in a change") }).await;
        let failed: Error = failed.map(|(): ()| ()).expect_err("it panicked");
        assert_eq!(failed.reason(), super::super::error::ErrorReason::Internal);
    }
}
