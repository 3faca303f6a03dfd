//! Blocking Kafka calls on a thread of their own, each with a time limit of ours.
//!
//! librdkafka does not bound all of its calls: a commit in flight when the coordinator dies waits for minutes. So the
//! caller stops waiting after its limit, and while a call is still stuck inside the library no further one is begun.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::oneshot;

/// Why a call gave no result. All are transient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An earlier call is still stuck inside the library.
    #[error("an earlier {0} call has not returned yet")]
    Busy(&'static str),
    /// No answer in time. The call may still take effect.
    #[error("the {0} call did not return in time")]
    TimedOut(&'static str),
    /// The thread is gone: the process is shutting down.
    #[error("the thread for {0} calls has ended")]
    Gone(&'static str),
}

type Job<T> = Box<dyn FnOnce(&T) + Send>;

/// Runs blocking calls on one thread, one at a time. Cheap to clone; the thread ends with the last clone.
pub struct Calls<T> {
    name: &'static str,
    jobs: Sender<Job<T>>,
}

impl<T> Clone for Calls<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            jobs: self.jobs.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> Calls<T> {
    /// Starts the thread. Fails when the system refuses a thread.
    pub fn start(name: &'static str, target: Arc<T>) -> io::Result<Self> {
        // One job may wait while the thread still returns from the one before; a third is refused.
        let (jobs, queue): (Sender<Job<T>>, Receiver<Job<T>>) = crossbeam_channel::bounded(1);
        std::thread::Builder::new()
            .name(format!("kafka-{name}"))
            .spawn(move || {
                for job in queue {
                    job(&target);
                }
            })?;
        Ok(Self { name, jobs })
    }

    /// Runs `call` and waits for at most `limit`. Cancel-safe in that the call still runs to its end.
    pub async fn call<R: Send + 'static>(
        &self,
        limit: Duration,
        call: impl FnOnce(&T) -> R + Send + 'static,
    ) -> Result<R, Error> {
        let (answer, answered) = oneshot::channel();
        let job: Job<T> = Box::new(move |target| {
            // The caller may have stopped waiting; then nobody wants the answer.
            let _ = answer.send(call(target));
        });
        self.jobs.try_send(job).map_err(|error| match error {
            crossbeam_channel::TrySendError::Full(_) => Error::Busy(self.name),
            crossbeam_channel::TrySendError::Disconnected(_) => Error::Gone(self.name),
        })?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(Error::Gone(self.name)),
            Err(_) => Err(Error::TimedOut(self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stuck_call_neither_blocks_its_caller_nor_lets_others_pile_up() {
        let calls = Calls::start("test", Arc::new(())).expect("a thread");
        let (release, stuck) = crossbeam_channel::bounded::<()>(0);
        let limit = Duration::from_millis(20);
        let first = calls.call(limit, move |()| stuck.recv()).await;
        assert_eq!(first.err(), Some(Error::TimedOut("test")));
        assert_eq!(calls.call(limit, |()| 1).await, Err(Error::TimedOut("test")));
        assert_eq!(calls.call(limit, |()| 2).await, Err(Error::Busy("test")));
        release.send(()).expect("the stuck call waits");
        let free = Duration::from_secs(10);
        while calls.call(free, |()| 3).await == Err(Error::Busy("test")) {
            tokio::task::yield_now().await;
        }
        assert_eq!(calls.call(free, |()| 4).await, Ok(4));
    }
}
