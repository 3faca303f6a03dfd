//! What must be known before a partition may be read: is it the topic that was accepted, and where does reading begin.
//!
//! Nothing here jumps: a start is either the committed position, checked against the log, or the first start of a
//! topic or partition that was never read before. Everything else stops the partition and names what is missing.

mod judge;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::Sender;
use reprise_shared::catalog::{Catalog, VersionSource};
use reprise_shared::ingest_state::stops::{self, PartitionStop};
use reprise_shared::position::{TopicName, TopicPartition};
use sqlx::mysql::MySqlPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use judge::Judge;
pub(crate) use judge::recreated;
use judge::{Error, Verdict, judge_position};

use super::partition::{Epoch, Owned, Partitions, State};
use super::reader::Command;
use crate::chunk::Stretch;
use crate::metrics;
use crate::types::Types;

/// Partitions that could not be admitted are tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often stopped partitions are looked up, whether an operator lets them go on.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// At most so many partitions that may go on are looked at.
const MOST_RESUMED: u32 = 10_000;

/// What the reader tells admission.
#[derive(Debug)]
pub enum Event {
    /// A partition was assigned and waits, paused.
    Assigned {
        /// The partition.
        partition: TopicPartition,
        /// Its assignment.
        epoch: Epoch,
    },
    /// The client met an offset out of range and does not say where.
    CheckPositions,
}

/// Judges partitions, one after the other.
pub struct Admission {
    /// Decides.
    pub judge: Judge,
    /// Remembers stops.
    pub pool: MySqlPool,
    /// Tells what is owned.
    pub partitions: Partitions,
    /// The state of all types.
    pub types: Types,
    /// The declared types.
    pub catalog: Arc<Catalog>,
    /// The reader.
    pub commands: Sender<Command>,
}

impl Admission {
    /// Works until shutdown or until the reader is gone.
    pub async fn run(self, mut events: mpsc::Receiver<Event>, shutdown: CancellationToken) {
        let mut pending: HashMap<TopicPartition, Epoch> = HashMap::new();
        let mut check = false;
        loop {
            let retry = tokio::time::sleep(RETRY_AFTER);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                event = events.recv() => match event {
                    None => return,
                    Some(Event::Assigned { partition, epoch }) => { pending.insert(partition, epoch); }
                    Some(Event::CheckPositions) => check = true,
                },
                () = retry, if check || !pending.is_empty() => {}
                () = tokio::time::sleep(LOOK_AGAIN), if self.owns_stopped() => match self.resumed().await {
                    Ok(resumed) => pending.extend(resumed),
                    Err(error) => tracing::warn!(%error, "look whether stopped partitions may go on"),
                }
            }
            while let Ok(event) = events.try_recv() {
                match event {
                    Event::Assigned { partition, epoch } => {
                        pending.insert(partition, epoch);
                    }
                    Event::CheckPositions => check = true,
                }
            }
            for (partition, epoch) in std::mem::take(&mut pending) {
                if shutdown.is_cancelled() {
                    return;
                }
                if let Err(error) = self.admit(&partition, epoch).await {
                    let error = reprise_shared::telemetry::chain(&error);
                    tracing::warn!(%partition, %error, "admission is tried again");
                    if self.partitions.with(&partition, epoch, |_| ()).is_some() {
                        pending.insert(partition, epoch);
                    }
                }
            }
            if check {
                match self.check_positions().await {
                    Ok(()) => check = false,
                    Err(error) => {
                        let error = reprise_shared::telemetry::chain(&error);
                        tracing::warn!(%error, "positions are checked again");
                    }
                }
            }
        }
    }

    fn owns_stopped(&self) -> bool {
        let stopped = |_: &TopicPartition, owned: &Owned| matches!(owned.state, State::Stopped { .. });
        self.partitions.view(stopped).contains(&true)
    }

    /// Lists this worker's stopped partitions that an operator lets go on, each under a new epoch.
    async fn resumed(&self) -> sqlx::Result<Vec<(TopicPartition, Epoch)>> {
        let resumed = stops::to_resume(&self.pool, MOST_RESUMED).await?;
        let renewed = resumed.into_iter().filter_map(|partition| {
            let epoch = self.partitions.renew(&partition)?;
            Some((partition, epoch))
        });
        Ok(renewed.collect())
    }

    async fn admit(&self, partition: &TopicPartition, epoch: Epoch) -> Result<(), Error> {
        if self.partitions.with(partition, epoch, |_| ()).is_none() {
            return Ok(());
        }
        match self.judge.judge(partition).await? {
            Verdict::Read {
                topic_id,
                generation,
                start,
                grown,
            } => {
                if let Some((before, now)) = grown {
                    self.grown(&partition.topic, before, now).await;
                }
                self.types.admit(partition, &topic_id, start).await?;
                stops::clear_partition_stop(&self.pool, &partition.topic, partition.partition).await?;
                let stretch = Arc::new(Stretch {
                    topic_partition: partition.clone(),
                    topic_id,
                    generation,
                    abandoned: AtomicBool::new(false),
                });
                metrics::partition_reads(partition.topic.as_str(), partition.partition.0);
                self.tell(Command::Admit {
                    partition: partition.clone(),
                    epoch,
                    stretch,
                    start,
                });
            }
            Verdict::Stop(stop) => self.stop(partition, epoch, stop).await?,
        }
        Ok(())
    }

    /// Stops a partition: on record first, then in this worker.
    pub(crate) async fn stop(&self, partition: &TopicPartition, epoch: Epoch, stop: PartitionStop) -> sqlx::Result<()> {
        stop_partition(&self.pool, &self.partitions, partition, epoch, stop).await?;
        self.tell(Command::Stop {
            partition: partition.clone(),
            epoch,
        });
        Ok(())
    }

    fn tell(&self, command: Command) {
        // A reader that is gone needs no commands.
        let _ = self.commands.send(command);
    }

    /// Stops the types that order rows by position alone: with more partitions their keys move.
    async fn grown(&self, topic: &TopicName, before: usize, now: usize) {
        for (index, data_type) in self.catalog.types_of_topic(topic) {
            if data_type.version.source == VersionSource::Position && !self.types.is_stopped(index) {
                let detail = format!("topic {topic} grew from {before} to {now} partitions, so its keys moved");
                self.types.stop(index, "PARTITIONS_ADDED", &detail).await;
            }
        }
    }

    /// Compares what was delivered of every partition that is read with its log. Those that look well are read anew
    /// from where they are: the client stays silent after such an error, whatever the log does meanwhile.
    async fn check_positions(&self) -> Result<(), Error> {
        let reading = self.partitions.view(|partition, owned| {
            matches!(owned.state, State::Reading(_)).then(|| (partition.clone(), owned.epoch, owned.queue.delivered()))
        });
        for (partition, epoch, delivered) in reading.into_iter().flatten() {
            let (low, high) = self.judge.watermarks(&partition).await?;
            match judge_position(delivered, low, high) {
                Err(stop) => self.stop(&partition, epoch, stop).await?,
                Ok(()) => self.tell(Command::ReadAnew { partition, epoch }),
            }
        }
        Ok(())
    }
}

/// Puts a stop on record and marks the partition.
pub(crate) async fn stop_partition(
    pool: &MySqlPool,
    partitions: &Partitions,
    partition: &TopicPartition,
    epoch: Epoch,
    stop: PartitionStop,
) -> sqlx::Result<()> {
    stops::record_partition_stop(pool, partition, &stop).await?;
    metrics::partition_stopped(partition.topic.as_str(), partition.partition.0, stop.reason.as_str());
    let shown = stop.to_string();
    if partitions.stop(partition, epoch, stop) {
        tracing::error!(%partition, stop = shown, "partition stopped");
    }
    Ok(())
}
