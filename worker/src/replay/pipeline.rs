//! The part of a task behind its reader: a decode thread and lanes of its own, made at the claim and dropped at its end.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use crossbeam_channel::Sender;
use reprise_shared::backoff::Backoff;
use reprise_shared::catalog::TypeIndex;
use reprise_shared::jobs::{Claim, Phase};
use reprise_shared::mysql::{Connector, InvalidUrl, Session};
use reprise_shared::position::Offset;
use reprise_shared::supervise::{OnCancel, OnError};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::clean;
use super::control::Control;
use super::judge::TaskJudge;
use super::rebuild;
use super::workshop::Workshop;
use crate::budget::Budget;
use crate::chunk::Chunk;
use crate::decode_stage::Stage;
use crate::lanes::{self, Lanes};
use crate::sink;
use crate::sink::clean::Cleaner;
use crate::sink::task::Task;
use crate::thread::{self, Running};

/// Why there is no pipeline.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The URL cannot be used.
    #[error("mysql.url cannot be used")]
    Url(#[source] InvalidUrl),
    /// The system refused a thread.
    #[error("start the decode thread")]
    Thread(#[source] std::io::Error),
}

/// What is done with chunks.
enum Work {
    /// They become rows for the lanes.
    Decode,
    /// What their records left is deleted; the lanes get nothing.
    Clean(Box<Cleaner>),
    /// Their records are counted by type; the lanes get nothing.
    Count,
}

/// What runs behind a reader.
pub(super) struct Pipeline {
    /// Where chunks go. The reader has a clone.
    pub(super) chunks: Sender<Arc<Chunk>>,
    pub(super) budget: Arc<Budget>,
    decoder: Running<Infallible>,
    lanes: Lanes,
    drained: Vec<oneshot::Receiver<()>>,
    abandon: CancellationToken,
}

impl Pipeline {
    /// Starts the parts, from the database end to the reader's.
    pub(super) fn start(
        workshop: &Workshop,
        claim: &Claim,
        data_type: Option<TypeIndex>,
        judge: TaskJudge,
        open_letters: &Arc<BTreeSet<Offset>>,
        (control, lost): (&Arc<Control>, &CancellationToken),
    ) -> Result<Self, Error> {
        let replay = &workshop.config.replay;
        let bytes = usize::try_from(replay.max_bytes_in_flight.as_u64()).unwrap_or(usize::MAX);
        let budget = Arc::new(Budget::new(replay.max_rows_in_flight, bytes));
        let abandon = CancellationToken::new();
        let task = data_type.map(|data_type| Task {
            id: claim.task,
            epoch: claim.epoch,
            mode: claim.mode,
            data_type,
            lanes: claim.lanes,
            open_letters: Arc::clone(open_letters),
            max_mismatches: replay.max_mismatches,
            lost: lost.clone(),
        });
        let work = match (&task, claim.phase) {
            (None, _) => Work::Count,
            (Some(task), Phase::Clean) => Work::Clean(Box::new(cleaner(workshop, task, control)?)),
            (Some(_), Phase::Write) => Work::Decode,
        };
        let (lanes, each) = Lanes::new(lanes::Setup {
            catalog: Arc::clone(&workshop.catalog),
            config: lanes_config(workshop),
            url: workshop.config.mysql.url_with_tls(),
            database: workshop.database.clone(),
            budget: Arc::clone(&budget),
            control: Arc::clone(control) as Arc<dyn lanes::TypeControl>,
            clock: workshop.clock.clone(),
            task,
        })
        .map_err(Error::Url)?;
        let (chunks, queue) = crossbeam_channel::bounded(replay.decode_queue);
        let stage = Stage {
            plans: Arc::clone(&workshop.plans),
            judge,
            lookups: workshop.lookups.clone(),
            lanes: lanes.clone(),
            budget: Arc::clone(&budget),
            limits: workshop.limits,
            clock: workshop.clock.clone(),
            runtime: tokio::runtime::Handle::current(),
            shutdown: abandon.clone(),
        };
        let abandoned = abandon.clone();
        let decode = move || {
            match work {
                Work::Decode => stage.run(&queue),
                Work::Clean(cleaner) => clean::run(&stage, *cleaner, &queue, &abandoned),
                Work::Count => rebuild::count(&stage, &queue),
            }
            Ok(())
        };
        let decoder = thread::spawn("task-decode", decode).map_err(Error::Thread)?;
        let drained = each
            .into_iter()
            .map(|lane| {
                let (drained, wait) = oneshot::channel();
                let abandon = abandon.clone();
                workshop
                    .supervisor
                    .spawn("task lane", OnError::Log, OnCancel::Wait, async move {
                        lane.run(abandon).await;
                        // The task may have given up waiting.
                        let _ = drained.send(());
                        Ok::<_, Infallible>(())
                    });
                wait
            })
            .collect();
        Ok(Self {
            chunks,
            budget,
            decoder,
            lanes,
            drained,
            abandon,
        })
    }

    /// Waits for the decode thread's end, which comes before its time only by a panic. Cancel-safe.
    pub(super) async fn broken(&mut self) {
        // Ok: it was told to end, and then nobody asks any more.
        if self.decoder.ended().await.is_ok() {
            std::future::pending::<()>().await;
        }
    }

    /// Lets everything that was delivered be written, once the reader has ended. Cancel-safe; what is not written then is
    /// dropped with the pipeline.
    pub(super) async fn finish(&mut self) {
        let (closed, _) = crossbeam_channel::bounded(0);
        drop(std::mem::replace(&mut self.chunks, closed));
        // A panic left its chunks incomplete; the others are finished all the same.
        let _ = self.decoder.ended().await;
        self.lanes.close();
        for drained in &mut self.drained {
            // A lane that is gone has nothing to finish.
            let _ = drained.await;
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.abandon.cancel();
        self.lanes.close();
    }
}

/// Makes what deletes in the first pass of a job that cleans first.
fn cleaner(workshop: &Workshop, task: &Task, control: &Arc<Control>) -> Result<Cleaner, Error> {
    let config = lanes_config(workshop);
    let session = Session {
        lock_wait_timeout: config.lock_wait_timeout,
        wait_timeout: config.wait_timeout,
        statement_cache: 8,
    };
    let url = workshop.config.mysql.url_with_tls();
    let setup = sink::clean::Setup {
        task: task.clone(),
        control: Arc::clone(control) as Arc<dyn lanes::TypeControl>,
        connector: Connector::new(&url, session).map_err(Error::Url)?,
        deadline: config.writer.batch_deadline,
        backoff: Backoff::new(config.writer.backoff_base, config.writer.backoff_cap),
        records: workshop.config.replay.clean_records,
    };
    Ok(Cleaner::new(setup, workshop.catalog.data_type(task.data_type)))
}

/// The lanes' configuration, with the shorter times of a task: somebody may be waiting for its locks.
fn lanes_config(workshop: &Workshop) -> lanes::Config {
    let replay = &workshop.config.replay;
    let mut config = workshop.config.lanes.clone();
    config.ping_interval = replay.ping_interval;
    config.wait_timeout = replay.wait_timeout;
    config.lock_wait_timeout = replay.lock_wait_timeout;
    // Counts are exact here.
    config.writer.sample_every = 0;
    config
}
