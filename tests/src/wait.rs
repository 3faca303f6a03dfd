//! Waiting for a condition, level-triggered: look, and look again until it holds or time is up.
//!
//! A wait that runs out of time fails with what was seen last, because "timed out" alone sends a person back to the
//! logs. Every look is bounded by the time that is left, so a hung server cannot hang a wait.

use std::{fmt::Display, time::Duration};

use anyhow::{Result, anyhow, bail};
use tokio::time::{Instant, sleep, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What one look saw.
#[derive(Debug)]
pub enum Seen<T> {
    /// The condition holds.
    Ready(T),
    /// It does not hold yet; the text says how things stand.
    NotYet(String),
    /// It can no longer come to hold, so that waiting on would be a waste of time.
    Never(anyhow::Error),
}

/// An answer that a look may give: an `Option`, a `Result` whose error is the status so far, or a [`Seen`].
pub trait Look<T> {
    /// Says what was seen.
    fn seen(self) -> Seen<T>;
}

impl<T> Look<T> for Option<T> {
    fn seen(self) -> Seen<T> {
        self.map_or_else(|| Seen::NotYet("nothing yet".to_owned()), Seen::Ready)
    }
}

impl<T, E: Display> Look<T> for std::result::Result<T, E> {
    fn seen(self) -> Seen<T> {
        // The alternate form prints the whole chain of an `anyhow::Error`, and a plain text as it is.
        self.map_or_else(|error| Seen::NotYet(format!("{error:#}")), Seen::Ready)
    }
}

impl<T> Look<T> for Seen<T> {
    fn seen(self) -> Self {
        self
    }
}

/// Waits until `look` sees `what`, for at most `limit`, and returns what it saw.
///
/// A failure of `look` is "not yet" and becomes the text of the time-out; [`Seen::Never`] ends the wait at once.
/// Cancel-safe as far as `look` is.
///
/// # Errors
/// Time ran out, or the condition can no longer hold.
pub async fn wait_for<T, L: Look<T>>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> L) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    let mut status = "nothing was seen at all".to_owned();
    loop {
        match timeout_at(deadline, look()).await.map(Look::seen) {
            Ok(Seen::Ready(value)) => return Ok(value),
            Ok(Seen::NotYet(text)) => status = text,
            Ok(Seen::Never(error)) => return Err(error.context(format!("wait for {what}"))),
            Err(_) => status = format!("{status}; the last look did not return"),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("waited {limit:?} for {what}; last seen: {status}");
        }
        // The last look is at the deadline itself.
        sleep(pause.min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Runs blocking work with a time limit; the thread is left behind when the limit passes.
///
/// # Errors
/// Time ran out, the work failed, or it panicked.
pub async fn blocking<T: Send + 'static>(
    what: &str,
    limit: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::time::timeout(limit, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(anyhow::Error::new(error).context(format!("run {what}"))),
        Err(_) => Err(anyhow!("{what} took longer than {limit:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_value_that_was_waited_for_is_returned() {
        let mut looks = 0;
        let value = wait_for("the third look", Duration::from_secs(1), async || {
            looks += 1;
            (looks == 3).then_some(looks)
        })
        .await
        .unwrap();
        assert_eq!(value, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_out_tells_the_last_status() {
        let mut rows = 0;
        let error = wait_for("10 rows", Duration::from_millis(300), async || {
            rows += 1;
            Err::<(), _>(format!("{} rows", rows.min(7)))
        })
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), "waited 300ms for 10 rows; last seen: 7 rows");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_cut_off_at_the_deadline() {
        let error = wait_for("an answer", Duration::from_secs(2), async || {
            std::future::pending::<Option<()>>().await
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("did not return"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_no_longer_happen_ends_the_wait_at_once() {
        let begun = Instant::now();
        let error = wait_for("a broker", Duration::from_secs(60), async || {
            Seen::<()>::Never(anyhow!("it has died"))
        })
        .await
        .unwrap_err();
        assert_eq!(format!("{error:#}"), "wait for a broker: it has died");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
