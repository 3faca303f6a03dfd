//! What must be known before a partition may be read: is it the topic that was accepted, and where does reading begin.
//!
//! Nothing here jumps: a start is either the committed position, checked against the log, or the first start of a
//! topic or partition that was never read before. Everything else stops the partition and names what is missing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::Sender;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use reprise_shared::catalog::{Catalog, VersionSource};
use reprise_shared::ingest_state::stops::{self, PartitionStop, PartitionStopReason};
use reprise_shared::ingest_state::topics;
use reprise_shared::kafka::calls::{self, Calls};
use reprise_shared::kafka::describe::{self, Described, describe_topics};
use reprise_shared::mysql::Database;
use reprise_shared::position::{Offset, Partition, TopicGeneration, TopicId, TopicName, TopicPartition};
use sqlx::mysql::MySqlPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::partition::{Epoch, Partitions, State};
use super::reader::Command;
use super::rebalance::{LiveConsumer, list};
use crate::chunk::Stretch;
use crate::config::StartAt;
use crate::metrics;
use crate::types::Types;

/// One Kafka call may take this long.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Partitions that could not be admitted are tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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

/// Why a partition could not be judged yet. All are tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Call(#[from] calls::Error),
    #[error("describe topic")]
    Describe(#[from] describe::Error),
    #[error("ask kafka")]
    Kafka(#[from] KafkaError),
    #[error("read or write ingest state")]
    Mysql(#[from] sqlx::Error),
    #[error("topic {0} does not exist (yet); create it, or take its data types out of the catalog")]
    TopicMissing(TopicName),
    #[error("kafka's answer lacks partition {0}")]
    Incomplete(TopicPartition),
}

/// What admission found.
enum Verdict {
    Read {
        topic_id: TopicId,
        generation: TopicGeneration,
        start: Offset,
    },
    Stop(PartitionStop),
}

/// Judges partitions, one after the other.
pub struct Admission {
    /// Runs Kafka calls.
    pub calls: Calls<LiveConsumer>,
    /// Remembers stops.
    pub pool: MySqlPool,
    /// Remembers accepted topics.
    pub database: Database,
    /// Tells what is owned.
    pub partitions: Partitions,
    /// The state of all types.
    pub types: Types,
    /// The declared types.
    pub catalog: Arc<Catalog>,
    /// Where a new topic is read from.
    pub start_at: StartAt,
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

    async fn admit(&self, partition: &TopicPartition, epoch: Epoch) -> Result<(), Error> {
        if self.partitions.with(partition, epoch, |_| ()).is_none() {
            return Ok(());
        }
        match self.judge(partition).await? {
            Verdict::Read {
                topic_id,
                generation,
                start,
            } => {
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

    async fn judge(&self, partition: &TopicPartition) -> Result<Verdict, Error> {
        let topic = &partition.topic;
        // A stop stays until an operator lifts it: what is missing does not come back when the log grows past it.
        if let Some(stop) = stops::partition_stop(&self.pool, partition).await?
            && stop.reason != PartitionStopReason::TopicMissing
        {
            return Ok(Verdict::Stop(stop));
        }
        let (topic_id, count) = match self.describe(topic).await? {
            Described::Topic { id, partitions } => (id, partitions),
            // A broker whose metadata is behind says this of a topic that exists: ask again.
            Described::Missing => return Err(Error::TopicMissing(topic.clone())),
        };
        let accepted = match topics::accepted(&self.pool, topic).await? {
            Some(accepted) => accepted,
            None => {
                self.accept(topic, &topic_id, count).await?;
                let accepted = topics::accepted(&self.pool, topic).await?;
                accepted.ok_or_else(|| Error::Incomplete(partition.clone()))?
            }
        };
        if accepted.topic_id != topic_id {
            return Ok(Verdict::Stop(recreated(topic, &accepted.topic_id, &topic_id)));
        }
        if count > accepted.partitions {
            self.grown(topic, accepted.partitions, count).await;
        }
        let (low, high) = self.watermarks(partition).await?;
        let generation = accepted.generation;
        if let Some(committed) = self.committed(partition).await? {
            topics::confirm_start(&self.pool, topic, generation, partition.partition).await?;
            return Ok(match judge_position(committed, low, high) {
                Ok(()) => Verdict::Read {
                    topic_id,
                    generation,
                    start: committed,
                },
                Err(stop) => Verdict::Stop(stop),
            });
        }
        let start = match topics::first_start(&self.pool, topic, generation, partition.partition).await? {
            Some(first) if first.confirmed => {
                return Ok(Verdict::Stop(PartitionStop {
                    reason: PartitionStopReason::OffsetsLost,
                    detail: "Kafka has no committed offset for this partition although one was committed before; \
                             resume it from an offset that the ledger's coverage shows as processed"
                        .to_owned(),
                    missing: Some((first.position, high)),
                }));
            }
            Some(first) => first.position,
            None => {
                // Added after the topic was accepted: nobody has read it, so it begins at its beginning.
                topics::add_partition(&self.pool, topic, generation, partition.partition, low).await?;
                low
            }
        };
        if let Err(stop) = judge_position(start, low, high) {
            return Ok(Verdict::Stop(stop));
        }
        self.commit_start(partition, start).await?;
        topics::confirm_start(&self.pool, topic, generation, partition.partition).await?;
        Ok(Verdict::Read {
            topic_id,
            generation,
            start,
        })
    }

    /// Accepts a topic that was never read: the start of every partition is resolved now, once for the fleet.
    async fn accept(&self, topic: &TopicName, topic_id: &TopicId, count: usize) -> Result<(), Error> {
        let mut starts = Vec::with_capacity(count);
        for number in 0..u16::try_from(count).unwrap_or(u16::MAX) {
            let partition = TopicPartition {
                topic: topic.clone(),
                partition: Partition(number),
            };
            let (low, high) = self.watermarks(&partition).await?;
            let start = match self.start_at {
                StartAt::Earliest => low,
                StartAt::Latest => high,
            };
            starts.push((Partition(number), start));
        }
        topics::accept_new(&self.database, topic, topic_id, &starts).await?;
        tracing::info!(%topic, %topic_id, partitions = count, start_at = ?self.start_at, "new topic accepted");
        Ok(())
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

    async fn describe(&self, topic: &TopicName) -> Result<Described, Error> {
        let asked = topic.clone();
        let mut described = self
            .calls
            .call(CALL_LIMIT, move |consumer| {
                describe_topics(consumer.client(), &[asked], CALL_LIMIT)
            })
            .await??;
        Ok(described.remove(topic).unwrap_or(Described::Missing))
    }

    async fn watermarks(&self, partition: &TopicPartition) -> Result<(Offset, Offset), Error> {
        let asked = partition.clone();
        let (low, high) = self
            .calls
            .call(CALL_LIMIT, move |consumer| {
                consumer.fetch_watermarks(asked.topic.as_str(), asked.partition.to_kafka(), CALL_LIMIT)
            })
            .await??;
        match (Offset::from_kafka(low), Offset::from_kafka(high)) {
            (Some(low), Some(high)) => Ok((low, high)),
            _ => Err(Error::Incomplete(partition.clone())),
        }
    }

    async fn committed(&self, partition: &TopicPartition) -> Result<Option<Offset>, Error> {
        let asked = list([(partition, rdkafka::Offset::Invalid)])?;
        let answer = self
            .calls
            .call(CALL_LIMIT, move |consumer| {
                consumer.committed_offsets(asked, CALL_LIMIT)
            })
            .await??;
        let elements = answer.elements();
        let element = elements.first().ok_or_else(|| Error::Incomplete(partition.clone()))?;
        element.error()?;
        Ok(match element.offset() {
            rdkafka::Offset::Offset(offset) => Offset::from_kafka(offset),
            _ => None,
        })
    }

    async fn commit_start(&self, partition: &TopicPartition, start: Offset) -> Result<(), Error> {
        let start = list([(partition, rdkafka::Offset::Offset(start.to_kafka()))])?;
        self.calls
            .call(CALL_LIMIT, move |consumer| consumer.commit(&start, CommitMode::Sync))
            .await??;
        Ok(())
    }

    /// Compares what was delivered of every partition that is read with its log. Those that look well are read anew
    /// from where they are: the client stays silent after such an error, whatever the log does meanwhile.
    async fn check_positions(&self) -> Result<(), Error> {
        let reading = self.partitions.view(|partition, owned| {
            matches!(owned.state, State::Reading(_)).then(|| (partition.clone(), owned.epoch, owned.queue.delivered()))
        });
        for (partition, epoch, delivered) in reading.into_iter().flatten() {
            let (low, high) = self.watermarks(&partition).await?;
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

/// Says that a topic has another id than the accepted one.
pub(crate) fn recreated(topic: &TopicName, accepted: &TopicId, found: &TopicId) -> PartitionStop {
    PartitionStop {
        reason: PartitionStopReason::TopicRecreated,
        detail: format!(
            "topic {topic} was deleted and re-created: its id is {found}, the accepted one is {accepted}; records that \
             were unread then are gone. Accept the new topic to go on"
        ),
        missing: None,
    }
}

/// Tells whether reading may go on at a position of a log `[low, high)`.
fn judge_position(position: Offset, low: Offset, high: Offset) -> Result<(), PartitionStop> {
    if position < low {
        return Err(PartitionStop {
            reason: PartitionStopReason::LogStartAhead,
            detail: format!(
                "the log begins at {low}, reading would go on at {position}: unread records were deleted. Have them \
                 resent, or accept the loss, then commit a position and remove this row"
            ),
            missing: Some((position, low)),
        });
    }
    if position > high {
        return Err(PartitionStop {
            reason: PartitionStopReason::LogEndBehind,
            detail: format!(
                "the log ends at {high}, reading would go on at {position}: it was truncated. Records that are written \
                 there now have offsets that were processed before; commit a position and remove this row to go on"
            ),
            missing: Some((high, position)),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_a_position_outside_the_log_names_the_exact_missing_interval() {
        let judge = |position| judge_position(Offset(position), Offset(10), Offset(20)).map_err(|stop| stop.missing);
        assert_eq!(judge(9), Err(Some((Offset(9), Offset(10)))));
        assert_eq!((judge(10), judge(20)), (Ok(()), Ok(())));
        assert_eq!(judge(25), Err(Some((Offset(20), Offset(25)))));
    }
}
