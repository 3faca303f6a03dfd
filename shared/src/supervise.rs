//! The one place where tasks are spawned: each has a name, a span, and says what its failure and its end mean.
//!
//! Two moments are kept apart, so that a service can drain in a written order. *Shutdown requested*: the
//! [`Supervisor::shutdown_token`] is cancelled, by a signal or by the failure of a critical task; tasks that watch it
//! begin to finish, the others go on. *Stop*: the service has drained and calls [`Supervisor::stop`], which drops the
//! tasks that nobody needs to wait for, waits for the rest, and aborts what is left at the deadline.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info_span, warn};

use crate::backoff::Backoff;
use crate::telemetry;

/// What the failure of a task means. A panic is a failure; ending with `Ok` is not, whenever it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The process cannot go on: the failure is kept for [`Supervisor::failure`] and shutdown is requested.
    ShutDown,
    /// The process goes on without the task; the failure is logged and counted.
    Log,
}

/// What [`Supervisor::stop`] does with a task that still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCancel {
    /// It is waited for until the deadline. Such a task has to watch the shutdown token or a channel that closes.
    Wait,
    /// It is dropped at once, at whatever await point it is.
    Abort,
}

/// The failure of a critical task.
#[derive(Debug, thiserror::Error)]
#[error("task {task} failed")]
pub struct Failure {
    /// The task's name.
    pub task: Arc<str>,
    /// What it failed with.
    #[source]
    pub error: Box<dyn Error + Send + Sync>,
}

/// A task panicked.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {message}")]
pub struct Panicked {
    /// What the panic said.
    pub message: String,
}

/// Spawns tasks and ends them. A cheap handle: clones share the tasks.
#[derive(Clone, Debug)]
pub struct Supervisor(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    stopping: CancellationToken,
    aborting: CancellationToken,
    failure: OnceLock<Arc<Failure>>,
    running: Mutex<BTreeMap<u64, Arc<str>>>,
    spawned: AtomicU64,
}

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

impl Supervisor {
    /// Makes a supervisor over the caller's shutdown token, which it cancels when a critical task fails.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            tracker: TaskTracker::new(),
            shutdown,
            stopping: CancellationToken::new(),
            aborting: CancellationToken::new(),
            failure: OnceLock::new(),
            running: Mutex::default(),
            spawned: AtomicU64::new(0),
        }))
    }

    /// Returns the token that is cancelled when shutdown is requested.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.0.shutdown.clone()
    }

    /// Returns the first failure of a critical task.
    pub fn failure(&self) -> Option<Arc<Failure>> {
        self.0.failure.get().cloned()
    }

    /// Starts a task that runs once.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn spawn<F, E>(&self, name: impl Into<Arc<str>>, on_error: OnError, on_cancel: OnCancel, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let name = name.into();
        let shared = self.0.clone();
        let task_name = name.clone();
        // On the heap at once: a large future that is handed from one caller to the next takes its size of the stack each
        // time, and threads of the runtime have 2 MiB.
        let task = Box::pin(task);
        self.track(name, on_cancel, async move {
            if let Err(error) = settle(task).await {
                match on_error {
                    OnError::ShutDown => shared.fail(task_name, error),
                    OnError::Log => {
                        telemetry::names::task_failed(&task_name);
                        error!(error = %telemetry::chain(&*error), "task failed");
                    }
                }
            }
        });
    }

    /// Starts a task that is made anew after each failure, until it ends with `Ok` or shutdown is requested.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn spawn_restarting<M, F, E>(
        &self,
        name: impl Into<Arc<str>>,
        backoff: Backoff,
        on_cancel: OnCancel,
        mut make: M,
    ) where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let name = name.into();
        let shutdown = self.0.shutdown.clone();
        let task_name = name.clone();
        self.track(name, on_cancel, async move {
            let mut failures = 0;
            loop {
                let started = Instant::now();
                // `make` runs inside the future so that its panic is a failure too.
                let Err(error) = settle(async { make().await }).await else {
                    return;
                };
                failures = if started.elapsed() > backoff.max {
                    1
                } else {
                    failures + 1
                };
                let delay = backoff.bound(failures);
                telemetry::names::task_failed(&task_name);
                warn!(error = %telemetry::chain(&*error), ?delay, failures, "task failed, will be restarted");
                if shutdown.run_until_cancelled(sleep(delay)).await.is_none() {
                    return;
                }
            }
        });
    }

    /// Requests shutdown, drops the tasks of [`OnCancel::Abort`], waits for the others until the deadline, and aborts
    /// what is left. Returns the names of the tasks that had to be aborted, in the order they were spawned; empty
    /// when all ended by themselves.
    ///
    /// Not cancel-safe in effect: when the returned future is dropped, shutdown stays requested, and tasks that do
    /// not end by themselves go on.
    pub async fn stop(&self, deadline: Duration) -> Vec<Arc<str>> {
        let shared = &self.0;
        shared.shutdown.cancel();
        shared.stopping.cancel();
        shared.tracker.close();
        if timeout(deadline, shared.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let names = shared.running.lock().values().cloned().collect();
        shared.aborting.cancel();
        names
    }

    /// Runs a whole task: its span, its entry in the list of what runs, and the tokens that can drop it.
    fn track(&self, name: Arc<str>, on_cancel: OnCancel, task: impl Future<Output = ()> + Send + 'static) {
        let span = info_span!("task", task.name = %name);
        let entry = Running::enter(&self.0, name);
        let dropped_by = match on_cancel {
            OnCancel::Wait => self.0.aborting.clone(),
            OnCancel::Abort => self.0.stopping.clone(),
        };
        let aborting = self.0.aborting.clone();
        self.0.tracker.spawn(
            async move {
                let _entry = entry;
                tokio::select! {
                    biased;
                    () = dropped_by.cancelled() => {}
                    () = aborting.cancelled() => {}
                    () = task => {}
                }
            }
            .instrument(span),
        );
    }
}

impl Shared {
    fn fail(&self, task: Arc<str>, error: Box<dyn Error + Send + Sync>) {
        telemetry::names::task_failed(&task);
        error!(error = %telemetry::chain(&*error), "task failed, shutting down");
        // Only the first failure is kept: later ones mostly follow from it, and they are in the log.
        let _ = self.failure.set(Arc::new(Failure { task, error }));
        self.shutdown.cancel();
    }
}

/// A task's entry in the list of what runs, for as long as it runs.
struct Running {
    shared: Arc<Shared>,
    number: u64,
}

impl Running {
    fn enter(shared: &Arc<Shared>, name: Arc<str>) -> Self {
        let number = shared.spawned.fetch_add(1, Ordering::Relaxed);
        shared.running.lock().insert(number, name);
        Self {
            shared: shared.clone(),
            number,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.running.lock().remove(&self.number);
    }
}

/// Runs a task to its end and turns a panic into an error.
async fn settle<F, E>(task: F) -> Outcome
where
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    // Unwind safety: whatever the task owned is dropped with it and never looked at again.
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(result) => result.map_err(Into::into),
        Err(panic) => Err(Panicked {
            message: panic_message(&*panic),
        }
        .into()),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is not text".to_owned()
    }
}
