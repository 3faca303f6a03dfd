//! Drives one task: reads its slice, moves its checkpoint over what is complete, and does what its job wants.

mod checkpoint;
mod letters;
mod start;

use std::sync::Arc;
use std::time::Duration;

use reprise_shared::catalog::TypeIndex;
use reprise_shared::jobs::{self, Claim, Missing, MissingReason, ReadCounts};
use reprise_shared::position::Offset;
use reprise_shared::whitelist::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::delivered::Delivered;
use super::judge::TaskJudge;
use super::live_first::Decision;
use super::pacer::Pacer;
use super::pipeline::Pipeline;
use super::reader::{self, Ended};
use super::rebuild::Rebuilt;
use super::running::Entry;
use super::workshop::Workshop;
use crate::thread;
use crate::types::retry;

/// The time between two looks at whether everything delivered is complete.
const LOOK: Duration = Duration::from_millis(20);
/// The time between two questions that nothing can be done without.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Connections of a task that is done are closed within this time.
const CLOSE: Duration = Duration::from_secs(1);

/// How far a task is.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Everything before it has its outcome.
    pub(super) position: Offset,
    /// What was read up to there.
    pub(super) read: ReadCounts,
}

/// Why a task does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// Its job, or this worker, is to be paused or ended.
    LetGo,
    /// Another owner has it.
    Lost,
    /// It cannot go on, and another attempt would not help.
    Fault {
        /// One word.
        reason: &'static str,
        /// For a person.
        detail: String,
    },
    /// Some of it cannot be read any more, and the job does not allow that.
    Missing(Missing),
    /// Another attempt may succeed.
    Attempt(Box<dyn std::error::Error + Send + Sync>),
}

/// A task at work.
pub(super) struct Drive {
    workshop: Arc<Workshop>,
    claim: Claim,
    /// `None`: a rebuild, which counts all types.
    data_type: Option<TypeIndex>,
    /// What a rebuild writes.
    rebuilt: Option<Rebuilt>,
    /// How far everything is complete; a rebuild's progress follows when the ledger has it.
    ahead: Progress,
    judge: TaskJudge,
    ids: Arc<Snapshot>,
    control: Arc<Control>,
    pipeline: Pipeline,
    delivered: Delivered,
    pacer: Pacer,
    /// What the job allows this task, in records a second.
    share: Option<u64>,
    decisions: watch::Receiver<Option<Decision>>,
    lost: CancellationToken,
    /// Ends the reading.
    stop: CancellationToken,
    ticks: tokio::time::Interval,
    entry: Entry,
}

impl Drive {
    /// Reads and writes until the end or until it has to stop. `progress` tells then how far everything is complete.
    pub(super) async fn run(mut self, progress: &mut Progress, shutdown: &CancellationToken) -> Result<(), Stop> {
        let ended = self.read_all(progress, shutdown).await;
        self.stop.cancel();
        match &ended {
            Ok(()) => {
                // Everything is complete: what is left to do is to close connections.
                let _ = tokio::time::timeout(CLOSE, self.pipeline.finish()).await;
            }
            Err(Stop::LetGo) => {
                let _ = tokio::time::timeout(self.workshop.config.replay.let_go, self.pipeline.finish()).await;
                // Whatever stops it now, it stops anyway.
                let _ = self.advance(progress).await;
            }
            Err(Stop::Lost | Stop::Fault { .. } | Stop::Missing(_) | Stop::Attempt(_)) => {}
        }
        ended
    }

    /// Reads the slice piece by piece: another begins behind what is missing.
    async fn read_all(&mut self, progress: &mut Progress, shutdown: &CancellationToken) -> Result<(), Stop> {
        let end = self.claim.slice.end;
        let mut start = progress.position;
        loop {
            let read = async |drive: &mut Self, progress: &mut Progress| {
                let ended = drive.read(start, progress, shutdown).await?;
                drive.complete(progress, shutdown).await?;
                Ok(ended)
            };
            let missing = match read(self, progress).await {
                Ok(Ended::Done) => return self.reach(end, progress, shutdown).await,
                Ok(Ended::Stopped) => return Err(Stop::LetGo),
                Ok(Ended::Missing { start, end, reason }) => self.missing(start, end, reason),
                // The topic is another one than before: nothing of the rest can be read.
                Err(Stop::Missing(missing)) => missing,
                Err(stop) => return Err(stop),
            };
            if !self.claim.allow_partial {
                return Err(Stop::Missing(missing));
            }
            self.pass_over(&missing, progress, shutdown).await?;
            start = missing.end;
            if start >= end {
                return Ok(());
            }
        }
    }

    /// Puts a missing interval on record and moves over it. Everything before it is complete.
    async fn pass_over(
        &mut self,
        missing: &Missing,
        progress: &mut Progress,
        shutdown: &CancellationToken,
    ) -> Result<(), Stop> {
        // Nothing that is still delivered belongs to the slice as it is now.
        self.stop.cancel();
        self.stop = CancellationToken::new();
        self.delivered = Delivered::starting_at(missing.end);
        tracing::warn!(start = %missing.start, end = %missing.end, reason = missing.reason.as_str(), "positions are missing");
        self.reach(progress.position.max(missing.start), progress, shutdown)
            .await?;
        self.checkpoint(progress).await?;
        let database = self.workshop.database.clone();
        let claim = &self.claim;
        let noted = retry("note missing", || {
            jobs::note_missing(&database, claim, missing, missing.end)
        });
        if !noted.await {
            return Err(Stop::Lost);
        }
        self.ahead.position = missing.end;
        progress.position = missing.end;
        Ok(())
    }

    /// Moves to a position before which no record is left.
    async fn reach(&mut self, end: Offset, progress: &mut Progress, shutdown: &CancellationToken) -> Result<(), Stop> {
        if let Some(rebuilt) = &mut self.rebuilt {
            rebuilt.add_empty(self.ahead.position, end);
        }
        self.ahead.position = end;
        while !self.catch_up(progress).await? {
            self.until(progress, shutdown, tokio::time::sleep(ASK_AGAIN)).await?;
        }
        Ok(())
    }

    fn missing(&self, start: Offset, end: Offset, reason: MissingReason) -> Missing {
        Missing {
            data_type: self.claim.slice.data_type.clone(),
            topic_partition: self.claim.slice.topic_partition.clone(),
            start,
            end,
            reason,
        }
    }

    /// Runs a reader from a position until it ends.
    async fn read(
        &mut self,
        start: Offset,
        progress: &mut Progress,
        shutdown: &CancellationToken,
    ) -> Result<Ended, Stop> {
        let (told, ended) = tokio::sync::oneshot::channel();
        let reader = self.reader(start)?;
        let mut running = thread::spawn("task-reader", move || {
            let ended = reader.run()?;
            // The task may be gone already.
            let _ = told.send(ended);
            Ok::<_, reader::Error>(())
        })
        .map_err(attempt)?;
        let ended = async move {
            // The word comes first: dropping the client afterwards may take seconds.
            match ended.await {
                Ok(ended) => Ok(ended),
                Err(_) => Err(running
                    .ended()
                    .await
                    .err()
                    .map_or_else(|| attempt(thread::Error::<reader::Error>::Panicked), attempt)),
            }
        };
        self.until(progress, shutdown, ended).await?
    }

    /// Waits until everything that was delivered is complete and taken.
    async fn complete(&mut self, progress: &mut Progress, shutdown: &CancellationToken) -> Result<(), Stop> {
        let (delivered, budget) = (self.delivered.clone(), Arc::clone(&self.pipeline.budget));
        let all = async move {
            while !delivered.all_complete() {
                // Only a hint: a change may be missed, so there is a limit.
                let _ = tokio::time::timeout(LOOK, budget.changed()).await;
            }
        };
        self.until(progress, shutdown, all).await?;
        loop {
            // Also where nothing is to be moved over: the end itself must be that of the slice's topic.
            if self.advance(progress).await? && self.delivered.is_empty() && self.is_same_topic().await? {
                return Ok(());
            }
            self.until(progress, shutdown, tokio::time::sleep(ASK_AGAIN)).await?;
        }
    }

    /// Waits for something, with a checkpoint each time that it is due.
    async fn until<T>(
        &mut self,
        progress: &mut Progress,
        shutdown: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let (lost, control) = (self.lost.clone(), Arc::clone(&self.control));
        tokio::pin!(work);
        loop {
            // Nothing is lost when a branch is dropped: `work` is kept, and ticks, tokens and faults are looked at again.
            tokio::select! {
                biased;
                () = lost.cancelled() => return Err(Stop::Lost),
                (reason, detail) = control.fault() => {
                    return Err(Stop::Fault { reason: reason.as_str(), detail });
                }
                () = shutdown.cancelled() => return Err(Stop::LetGo),
                () = self.pipeline.broken() => {
                    return Err(attempt(thread::Error::<reader::Error>::Panicked));
                }
                Ok(()) = self.decisions.changed() => self.pace(),
                _ = self.ticks.tick() => {
                    self.advance(progress).await?;
                    self.checkpoint(progress).await?;
                }
                done = &mut work => return Ok(done),
            }
        }
    }
}

/// An error that another attempt may overcome.
fn attempt(error: impl std::error::Error + Send + Sync + 'static) -> Stop {
    Stop::Attempt(Box::new(error))
}
