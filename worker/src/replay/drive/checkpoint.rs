//! How a task's checkpoint moves, and what comes back from it.

use std::time::Duration;

use reprise_shared::jobs::{self, MissingReason, Wanted};
use reprise_shared::kafka::describe::Described;
use reprise_shared::mysql::errors;
use reprise_shared::telemetry::chain;

use super::{Drive, Progress, Stop};
use crate::chunk::Completion;
use crate::metrics;

/// A checkpoint may take this long; then it is tried again at its next turn.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(5);

impl Drive {
    /// Moves over what is complete, once the topic is known to be the one that it was read from. `false`: that could not
    /// be told now.
    pub(super) async fn advance(&mut self, progress: &mut Progress) -> Result<bool, Stop> {
        let count = self.delivered.complete();
        if count == 0 {
            return self.catch_up(progress).await;
        }
        if !self.is_same_topic().await? {
            return Ok(false);
        }
        for (chunk, bytes) in self.delivered.take(count) {
            self.count(&chunk, bytes);
        }
        self.catch_up(progress).await
    }

    /// Asks whether the topic is still the one of the slice, after everything that counts on it was delivered. `false`:
    /// that could not be told now.
    pub(super) async fn is_same_topic(&self) -> Result<bool, Stop> {
        let slice = &self.claim.slice;
        match self.workshop.probe.describe(&slice.topic_partition.topic).await {
            Ok(Described::Topic { id, .. }) if id == slice.topic_id => Ok(true),
            Ok(Described::Topic { .. }) => {
                let missing = self.missing(self.ahead.position, slice.end, MissingReason::Recreated);
                Err(Stop::Missing(missing))
            }
            Ok(Described::Missing) => Ok(false),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the topic's id is unknown: the checkpoint waits for kafka");
                Ok(false)
            }
        }
    }

    /// Takes over what is complete, once the ledger has it where it must and the letters of records that yield nothing are
    /// closed. `false`: not now.
    pub(super) async fn catch_up(&mut self, progress: &mut Progress) -> Result<bool, Stop> {
        if let Some(rebuilt) = &mut self.rebuilt
            && !rebuilt.write().await
        {
            return Ok(false);
        }
        if !self.close_letters().await? {
            return Ok(false);
        }
        progress.clone_from(&self.ahead);
        Ok(true)
    }

    fn count(&mut self, chunk: &Completion, bytes: u64) {
        if let Some(rebuilt) = &mut self.rebuilt {
            rebuilt.add(chunk);
        }
        let read = &mut self.ahead.read;
        read.read += chunk.records;
        read.bytes += bytes;
        for (data_type, tally) in chunk.tallies() {
            read.skipped += tally.records.skipped;
            if data_type == self.data_type {
                read.filtered += tally.records.filtered;
            }
        }
        self.ahead.position = chunk.end;
        metrics::task_read(&self.claim.slice.data_type, chunk.records);
    }

    /// Writes the checkpoint and does what comes back.
    pub(super) async fn checkpoint(&mut self, progress: &Progress) -> Result<(), Stop> {
        let workshop = &self.workshop;
        let decision = workshop.live_first.decision();
        self.entry.set(progress.position, &decision.reason);
        let started = workshop.clock.monotonic();
        let (position, read) = (progress.position, &progress.read);
        let written = jobs::checkpoint(workshop.database.pool(), &self.claim, position, read, &decision.reason);
        let wanted = tokio::time::timeout(CHECKPOINT_LIMIT, written).await;
        workshop
            .live_first
            .wrote_in(workshop.clock.monotonic().saturating_sub(started));
        match wanted {
            Ok(Ok(Wanted::Run { max_records_per_second })) => {
                self.share = max_records_per_second;
                self.pace();
                Ok(())
            }
            Ok(Ok(Wanted::LetGo)) => Err(Stop::LetGo),
            Ok(Ok(Wanted::Lost)) => Err(Stop::Lost),
            Ok(Err(error)) => {
                tracing::warn!(error = errors::describe(&error), "write a checkpoint");
                Ok(())
            }
            Err(_) => {
                tracing::warn!("a checkpoint was not written in time");
                Ok(())
            }
        }
    }

    /// Sets the pace by what the job allows and what live traffic leaves.
    pub(super) fn pace(&self) {
        let speed = self.workshop.live_first.decision().speed;
        self.pacer.set(self.share, speed);
    }
}
