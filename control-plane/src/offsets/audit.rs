//! Tells what of each partition has a durable outcome.
//!
//! Where the ingest group stands is asked of the broker by the group's name: unlike what workers tell, that is there
//! while no worker runs.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _};
use reprise_shared::ingest_state::deferred;
use reprise_shared::ledger::{CoverageKind, Interval};
use reprise_shared::position::{Offset, Partition, TopicId, TopicName};

use super::pieces::{OnRecord, Piece};
use super::{Error, Offsets, chosen, place};

/// So many partitions are looked at before it is seen whether the page is long enough.
const AT_A_TIME: usize = 16;
/// So many of them side by side.
const SIDE_BY_SIDE: usize = 4;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The topic.
    pub topic: TopicName,
    /// Only these partitions; none: all.
    pub partitions: Vec<Partition>,
    /// These positions, up to the log's end; `None`: what lies between the log's start and the committed position.
    pub within: Option<Interval>,
}

/// The coverage of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The partition.
    pub partition: Partition,
    /// What is known, by start, without gaps; deferred intervals stand beside the others.
    pub pieces: Vec<Piece>,
}

type Deferred = BTreeMap<Partition, BTreeMap<String, Vec<Interval>>>;

impl Offsets {
    /// Audits at most `size` partitions after one, by number, and tells whether there are more. A page is shorter
    /// where it would have more than `offsets.max_intervals` intervals.
    ///
    /// # Errors
    /// When Kafka, Redis or MySQL does not answer, or one partition alone has more intervals than that.
    pub async fn audit(
        &self,
        question: &Question,
        after: Option<Partition>,
        size: usize,
    ) -> Result<(Vec<Audited>, bool), Error> {
        let topic = self.parts().kafka.topic(&question.topic).await?;
        let all = chosen(&question.partitions, topic.partitions).into_iter();
        let left: Vec<_> = all
            .filter(|partition| after.is_none_or(|after| *partition > after))
            .collect();
        let deferred = self.deferred(&question.topic, &topic.id).await?;
        let (mut audited, mut intervals): (Vec<Audited>, _) = (Vec::new(), 0);
        for partitions in left[..left.len().min(size)].chunks(AT_A_TIME) {
            for found in self.audit_some(question, &topic.id, partitions, &deferred).await? {
                intervals += found.pieces.len();
                if intervals > self.config().max_intervals {
                    if audited.is_empty() {
                        return Err(self.too_many(&question.topic, found.partition));
                    }
                    return Ok((audited, true));
                }
                audited.push(found);
            }
        }
        let more = left.len() > audited.len();
        Ok((audited, more))
    }

    async fn audit_some(
        &self,
        question: &Question,
        topic_id: &TopicId,
        partitions: &[Partition],
        deferred: &Deferred,
    ) -> Result<Vec<Audited>, Error> {
        let kafka = &self.parts().kafka;
        let (logs, committed) = tokio::try_join!(
            kafka.logs(&question.topic, partitions),
            kafka.committed(&question.topic, partitions)
        )?;
        let asked = partitions.iter().copied().zip(logs.into_iter().zip(committed));
        futures::stream::iter(asked)
            .map(|(partition, (log, committed))| async move {
                let within = question.within.map_or_else(
                    || to_committed(log, committed),
                    |within| Interval::new(within.start, within.end.min(log.end)),
                );
                let mut known = OnRecord {
                    deferred: deferred.get(&partition).cloned().unwrap_or_default(),
                    ..OnRecord::default()
                };
                for member in self
                    .coverage(&place(&question.topic, partition), topic_id, within)
                    .await?
                {
                    let interval = member.interval();
                    match member.kind {
                        CoverageKind::Live => known.live.push(interval),
                        CoverageKind::Attested => known.attested.push(interval),
                        CoverageKind::Lost => known.lost.push(interval),
                        CoverageKind::Deferred => {
                            let data_type = member.data_type.unwrap_or_default();
                            known.deferred.entry(data_type).or_default().push(interval);
                        }
                    }
                }
                Ok(Audited {
                    partition,
                    pieces: known.pieces(within, log.start),
                })
            })
            .buffered(SIDE_BY_SIDE)
            .try_collect()
            .await
    }

    async fn deferred(&self, topic: &TopicName, topic_id: &TopicId) -> Result<Deferred, Error> {
        let most = u32::try_from(self.config().max_intervals).unwrap_or(u32::MAX);
        let owed = deferred::owed(self.parts().database.pool(), topic, topic_id, most.saturating_add(1)).await?;
        if let Some(last) = owed.get(self.config().max_intervals) {
            return Err(self.too_many(topic, Partition(last.partition)));
        }
        let mut by_partition = Deferred::new();
        for interval in owed {
            let of_partition = by_partition.entry(Partition(interval.partition)).or_default();
            let of_type = of_partition.entry(interval.data_type).or_default();
            of_type.push(Interval::new(interval.start, interval.end));
        }
        Ok(by_partition)
    }

    fn too_many(&self, topic: &TopicName, partition: Partition) -> Error {
        Error::TooMuch {
            partition: place(topic, partition),
            what: "intervals of coverage",
            most: self.config().max_intervals,
        }
    }
}

/// Returns what lies between the log's start and the committed position: nothing where nothing was committed, and what
/// was deleted unread where the log begins later.
fn to_committed(log: Interval, committed: Option<Offset>) -> Interval {
    let committed = committed.unwrap_or(log.start);
    Interval::new(log.start.min(committed), log.start.max(committed))
}
