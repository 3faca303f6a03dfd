//! Looks for tasks and runs them: a permit first, so that nothing is claimed that has to wait.

use std::convert::Infallible;
use std::sync::Arc;

use reprise_shared::jobs;
use reprise_shared::mysql::errors;
use reprise_shared::supervise::{OnCancel, OnError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::task;
use super::workshop::Workshop;
use crate::metrics;

/// Claims and runs tasks until shutdown, and returns when the last one was let go.
pub(super) async fn run(workshop: Arc<Workshop>, shutdown: CancellationToken) {
    let most = workshop.config.replay.max_tasks;
    let permits = Arc::new(Semaphore::new(most));
    loop {
        let permit = shutdown.run_until_cancelled(Arc::clone(&permits).acquire_owned()).await;
        let Some(Ok(permit)) = permit else { break };
        // Not given up in the middle: a claim that nobody hears of would wait for the end of its lease.
        let claimed = jobs::claim(&workshop.database, &workshop.worker, |names| workshop.hash_of(names)).await;
        match claimed {
            Ok(Some(claim)) => {
                let (workshop, shutdown) = (Arc::clone(&workshop), shutdown.clone());
                let supervisor = workshop.supervisor.clone();
                let permits = Arc::clone(&permits);
                supervisor.spawn("task", OnError::Log, OnCancel::Wait, async move {
                    metrics::tasks_running(most - permits.available_permits());
                    task::run(workshop, claim, shutdown).await;
                    drop(permit);
                    metrics::tasks_running(most - permits.available_permits());
                    Ok::<_, Infallible>(())
                });
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(error = errors::describe(&error), "look for a task"),
        }
        drop(permit);
        let pause = tokio::time::sleep(workshop.config.replay.poll);
        if shutdown.run_until_cancelled(pause).await.is_none() {
            break;
        }
    }
    // Closed never: the semaphore lives here.
    let _ = permits.acquire_many(u32::try_from(most).unwrap_or(u32::MAX)).await;
}
