//! One task, from its claim to its end.

use std::sync::Arc;

use reprise_shared::jobs::{self, Claim, reasons};
use reprise_shared::telemetry::chain;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::drive::{Drive, Progress, Stop};
use super::lease::Keeper;
use super::workshop::Workshop;
use crate::metrics;
use crate::types::retry;

/// Runs a task until it is done, or must not or cannot go on. Whatever it ends with is on record then, unless another
/// owner has it.
pub(super) async fn run(workshop: Arc<Workshop>, claim: Claim, shutdown: CancellationToken) {
    let (over, lost) = (CancellationToken::new(), CancellationToken::new());
    let _ends_the_lease = over.clone().drop_guard();
    let keeper = Keeper {
        connector: workshop.leases.clone(),
        claim: claim.clone(),
        owner: workshop.worker.id.clone(),
        lease: workshop.worker.lease,
        every: workshop.config.replay.renew,
        lost: lost.clone(),
    };
    crate::upkeep::task(
        &workshop.supervisor,
        "task lease",
        reprise_shared::supervise::OnCancel::Abort,
        keeper.run(over),
    );
    let slice = &claim.slice;
    let span = tracing::info_span!("run", job.id = %claim.task.job, task.number = claim.task.number,
        partition = %slice.topic_partition, data_type = slice.data_type);
    async {
        tracing::info!(start = %slice.start, end = %slice.end, checkpoint = %claim.checkpoint,
            attempt = claim.attempts, phase = ?claim.phase, mode = ?claim.mode, "task begins");
        let (progress, ended) = work(&workshop, &claim, &lost, &shutdown).await;
        conclude(&workshop, &claim, &progress, ended).await;
    }
    .instrument(span)
    .await;
}

/// Does the work; returns how far it came and why it ended.
async fn work(
    workshop: &Arc<Workshop>,
    claim: &Claim,
    lost: &CancellationToken,
    shutdown: &CancellationToken,
) -> (Progress, Result<(), Stop>) {
    let mut progress = Progress {
        position: claim.checkpoint,
        read: claim.read,
    };
    let drive = match Drive::new(workshop, claim, lost, shutdown).await {
        Ok(drive) => drive,
        Err(stop) => return (progress, Err(stop)),
    };
    let ended = drive.run(&mut progress, shutdown).await;
    (progress, ended)
}

/// Puts the end of a claim on record, however long MySQL is away.
async fn conclude(workshop: &Workshop, claim: &Claim, progress: &Progress, ended: Result<(), Stop>) {
    let database = &workshop.database;
    let Progress { position, read } = progress;
    let outcome = match ended {
        Ok(()) => {
            retry("finish task", || jobs::finish(database, claim, claim.slice.end, read)).await;
            "finished"
        }
        Err(Stop::LetGo) => {
            retry("release task", || jobs::release(database, claim, *position, read, None)).await;
            "let go"
        }
        Err(Stop::Lost) => "lost",
        Err(Stop::Fault { reason, detail }) => {
            tracing::error!(reason, detail, "task failed");
            retry("fail task", || jobs::fail_task(database, claim, reason, &detail)).await;
            "failed"
        }
        Err(Stop::Missing(missing)) => {
            let detail = format!(
                "offsets [{}, {}) of {} cannot be read any more: {}; allow_partial lets a job go on without them",
                missing.start,
                missing.end,
                missing.topic_partition,
                missing.reason.as_str()
            );
            tracing::error!(detail, "task failed");
            retry("fail task", || {
                jobs::fail_task(database, claim, reasons::DATA_EXPIRED, &detail)
            })
            .await;
            "failed"
        }
        Err(Stop::Attempt(error)) => {
            let text = chain(&*error).to_string();
            tracing::warn!(error = text, "the attempt failed, the task will be tried again");
            retry("release task", || {
                jobs::release(database, claim, *position, read, Some(&text))
            })
            .await;
            "attempt failed"
        }
    };
    metrics::task_ended(outcome);
    tracing::info!(outcome, position = %position, read = read.read, filtered = read.filtered,
        skipped = read.skipped, "task ended");
    if outcome != "lost"
        && let Err(error) = jobs::settle(database, claim.task.job).await
    {
        // The control plane settles, too.
        tracing::debug!(%error, "settle the job");
    }
}
