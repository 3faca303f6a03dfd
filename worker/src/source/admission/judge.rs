//! Decides over one partition: reads what Kafka and MySQL know of it and either finds the start or the reason to stop.

use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use reprise_shared::clock::Clock;
use reprise_shared::ingest_state::stops::{self, PartitionStop, PartitionStopReason};
use reprise_shared::ingest_state::topics;
use reprise_shared::kafka::calls::{self, Calls};
use reprise_shared::kafka::describe::{self, Described, describe_topics};
use reprise_shared::ledger::{Coverage, CoverageKind, Marker, Millis};
use reprise_shared::mysql::Database;
use reprise_shared::position::{Offset, Partition, TopicGeneration, TopicId, TopicName, TopicPartition};
use reprise_shared::redis;

use crate::config::StartAt;
use crate::source::rebalance::{LiveConsumer, list};

/// One Kafka call may take this long.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Why a partition could not be judged yet. All are tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Call(#[from] calls::Error),
    #[error("describe topic")]
    Describe(#[from] describe::Error),
    #[error("ask kafka")]
    Kafka(#[from] KafkaError),
    #[error("read or write ingest state")]
    Mysql(#[from] sqlx::Error),
    #[error("note what is lost")]
    Redis(#[from] redis::Error),
    #[error("topic {0} does not exist (yet); create it, or take its data types out of the catalog")]
    TopicMissing(TopicName),
    #[error("kafka's answer lacks partition {0}")]
    Incomplete(TopicPartition),
}

/// What admission found.
pub(super) enum Verdict {
    Read {
        topic_id: TopicId,
        generation: TopicGeneration,
        start: Offset,
        /// The topic has more partitions than when it was accepted: how many then, and now.
        grown: Option<(usize, usize)>,
    },
    Stop(PartitionStop),
}

/// What a decision needs.
pub struct Judge {
    /// Runs Kafka calls.
    pub calls: Calls<LiveConsumer>,
    /// Remembers stops and accepted topics.
    pub database: Database,
    /// Where a new topic is read from.
    pub start_at: StartAt,
    /// Notes what is lost.
    pub marker: Marker,
    /// Time.
    pub clock: Clock,
}

impl Judge {
    /// Finds where a partition is read from; the start is committed when this returns.
    pub(super) async fn judge(&self, partition: &TopicPartition) -> Result<Verdict, Error> {
        let topic = &partition.topic;
        // A stop stays until an operator lifts it: what is missing does not come back when the log grows past it.
        let stop = stops::partition_stop(self.database.pool(), partition).await?;
        if let Some(stop) = &stop
            && stop.resume_from.is_none()
            && stop.reason != PartitionStopReason::TopicMissing
        {
            return Ok(Verdict::Stop(stop.clone()));
        }
        let (topic_id, count) = match self.describe(topic).await? {
            Described::Topic { id, partitions } => (id, partitions),
            // A broker whose metadata is behind says this of a topic that exists: ask again.
            Described::Missing => return Err(Error::TopicMissing(topic.clone())),
        };
        let accepted = match topics::accepted(self.database.pool(), topic).await? {
            Some(accepted) => accepted,
            None => {
                self.accept(topic, &topic_id, count).await?;
                let accepted = topics::accepted(self.database.pool(), topic).await?;
                accepted.ok_or_else(|| Error::Incomplete(partition.clone()))?
            }
        };
        if accepted.topic_id != topic_id {
            return Ok(Verdict::Stop(recreated(topic, &accepted.topic_id, &topic_id)));
        }
        let grown = (count > accepted.partitions).then_some((accepted.partitions, count));
        let (low, high) = self.watermarks(partition).await?;
        let generation = accepted.generation;
        let lifted = stop.as_ref().and_then(|stop| Some((stop, stop.resume_from?)));
        let start = match lifted {
            Some((stop, start)) => match judge_position(start, low, high) {
                Ok(()) => {
                    self.lift(partition, stop, (&topic_id, generation), start).await?;
                    Ok(start)
                }
                Err(stop) => Err(stop),
            },
            None => self.start(partition, generation, (low, high)).await?,
        };
        Ok(match start {
            Ok(start) => Verdict::Read {
                topic_id,
                generation,
                start,
                grown,
            },
            Err(stop) => Verdict::Stop(stop),
        })
    }

    /// Finds where a partition of an accepted topic is read from, and commits a first start; the inner error stops it.
    async fn start(
        &self,
        partition: &TopicPartition,
        generation: TopicGeneration,
        (low, high): (Offset, Offset),
    ) -> Result<Result<Offset, PartitionStop>, Error> {
        let topic = &partition.topic;
        if let Some(committed) = self.committed(partition).await? {
            topics::confirm_start(self.database.pool(), topic, generation, partition.partition).await?;
            return Ok(judge_position(committed, low, high).map(|()| committed));
        }
        let start = match topics::first_start(self.database.pool(), topic, generation, partition.partition).await? {
            Some(first) if first.confirmed => {
                return Ok(Err(PartitionStop::new(
                    PartitionStopReason::OffsetsLost,
                    "Kafka has no committed offset for this partition although one was committed before; resume it \
                     from an offset that the ledger's coverage shows as processed",
                    Some((first.position, high)),
                )));
            }
            Some(first) => first.position,
            None => {
                // Added after the topic was accepted: nobody has read it, so it begins at its beginning.
                topics::add_partition(self.database.pool(), topic, generation, partition.partition, low).await?;
                low
            }
        };
        if let Err(stop) = judge_position(start, low, high) {
            return Ok(Err(stop));
        }
        self.commit_start(partition, start).await?;
        topics::confirm_start(self.database.pool(), topic, generation, partition.partition).await?;
        Ok(Ok(start))
    }

    /// Prepares to go on where an operator wants: what is passed over is on record as lost, and the start is committed.
    /// Repeated after a crash it does the same again.
    async fn lift(
        &self,
        partition: &TopicPartition,
        stop: &PartitionStop,
        (topic_id, generation): (&TopicId, TopicGeneration),
        start: Offset,
    ) -> Result<(), Error> {
        let committed = self.committed(partition).await?;
        // What was committed of a topic that is gone says nothing of the new one.
        let lost =
            committed.filter(|committed| *committed < start && stop.reason != PartitionStopReason::TopicRecreated);
        if let Some(lost) = lost {
            let now = Millis(self.clock.now().as_millisecond());
            let coverage = Coverage {
                kind: CoverageKind::Lost,
                topic_id: topic_id.clone(),
                data_type: None,
                start: lost,
                end: start,
                first_processed: now,
                last_processed: now,
            };
            self.marker.mark(partition, &coverage).await?;
        }
        let pool = self.database.pool();
        topics::add_partition(pool, &partition.topic, generation, partition.partition, start).await?;
        self.commit_start(partition, start).await?;
        topics::confirm_start(pool, &partition.topic, generation, partition.partition).await?;
        tracing::info!(%partition, %start, ?committed, reason = stop.reason.as_str(), "an operator lets it go on");
        Ok(())
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

    /// Asks for the first and the next offset of a partition's log.
    pub(super) async fn watermarks(&self, partition: &TopicPartition) -> Result<(Offset, Offset), Error> {
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
}

/// Says that a topic has another id than the accepted one.
pub(crate) fn recreated(topic: &TopicName, accepted: &TopicId, found: &TopicId) -> PartitionStop {
    PartitionStop::new(
        PartitionStopReason::TopicRecreated,
        format!(
            "topic {topic} was deleted and re-created: its id is {found}, the accepted one is {accepted}; records that \
             were unread then are gone. Resume it from an offset of the new topic to accept that one"
        ),
        None,
    )
}

/// Tells whether reading may go on at a position of a log `[low, high)`.
pub(super) fn judge_position(position: Offset, low: Offset, high: Offset) -> Result<(), PartitionStop> {
    if position < low {
        return Err(PartitionStop::new(
            PartitionStopReason::LogStartAhead,
            format!(
                "the log begins at {low}, reading would go on at {position}: unread records were deleted. Have them \
                 resent; to go on, resume it and accept the missing interval"
            ),
            Some((position, low)),
        ));
    }
    if position > high {
        return Err(PartitionStop::new(
            PartitionStopReason::LogEndBehind,
            format!(
                "the log ends at {high}, reading would go on at {position}: it was truncated. Records that are written \
                 there now have offsets that were processed before; to go on, resume it from an offset"
            ),
            Some((high, position)),
        ));
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
