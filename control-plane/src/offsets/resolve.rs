//! Turns times into offsets and offsets into times.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use reprise_shared::ledger::{CoverageKind, Interval, Millis};
use reprise_shared::position::{Offset, Partition, TopicId, TopicName};
use tokio_util::task::AbortOnDropHandle;

use super::hull::{Facts, Source, joined};
use super::scan::ALL;
use super::window::{Basis, Window};
use super::{Error, Offsets, chosen, place};

/// So many partitions are looked at side by side.
const SIDE_BY_SIDE: usize = 4;

/// What is asked of which ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The data type.
    pub data_type: String,
    /// Its topic.
    pub topic: TopicName,
    /// Only these partitions; none: all.
    pub partitions: Vec<Partition>,
    /// Which time is meant.
    pub basis: Basis,
}

/// The offsets of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The partition.
    pub partition: Partition,
    /// The positions; empty: there are none.
    pub offsets: Interval,
    /// Where the answer comes from.
    pub source: Source,
}

impl Offsets {
    /// Turns a time window into positions, partition by partition. [`super::hull`] says what they mean.
    ///
    /// # Errors
    /// When Kafka or Redis does not answer, or a partition has more ranges than may be looked at.
    #[expect(
        clippy::disallowed_methods,
        reason = "these tasks end with the call that waits for them: dropping it aborts them"
    )]
    pub async fn offsets_of(&self, question: &Question, window: Window) -> Result<Vec<Resolved>, Error> {
        let (kafka, topic) = (&self.parts().kafka, &question.topic);
        let known = kafka.topic(topic).await?;
        let partitions = chosen(&question.partitions, known.partitions);
        let logs = kafka.logs(topic, &partitions).await?;
        let firsts = match window.start {
            Some(start) if question.basis == Basis::Record => kafka.offsets_at(topic, &partitions, start).await?,
            _ => logs.iter().map(|log| (!log.is_empty()).then_some(log.start)).collect(),
        };
        let beyonds = match window.end {
            Some(end) if question.basis == Basis::Record => kafka.offsets_at(topic, &partitions, end).await?,
            _ => vec![None; partitions.len()],
        };
        let asked = partitions.into_iter().zip(logs).zip(firsts.into_iter().zip(beyonds));
        let (question, topic_id) = (Arc::new(question.clone()), Arc::new(known.id));
        futures::stream::iter(asked)
            .map(|((partition, log), (first, beyond))| {
                let (offsets, question, topic_id) = (self.clone(), Arc::clone(&question), Arc::clone(&topic_id));
                let facts = Facts {
                    log,
                    first,
                    beyond,
                    covered: Vec::new(),
                    indexed_from: Offset(0),
                    matching: None,
                };
                // Reading thousands of ranges is work for more than one core.
                AbortOnDropHandle::new(tokio::spawn(async move {
                    offsets.resolve(&question, &topic_id, partition, window, facts).await
                }))
            })
            .buffered(SIDE_BY_SIDE)
            .map(|resolved| resolved.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())))
            .try_collect()
            .await
    }

    async fn resolve(
        &self,
        question: &Question,
        topic_id: &TopicId,
        partition: Partition,
        window: Window,
        facts: Facts,
    ) -> Result<Resolved, Error> {
        let log = facts.log;
        let (offsets, source) = match question.basis {
            Basis::Record => {
                self.by_record_time(question, topic_id, partition, window, facts)
                    .await?
            }
            Basis::Processed => {
                let found = self.matching(question, topic_id, partition, window, ALL).await?;
                (found.unwrap_or(Interval::new(log.end, log.end)), Source::Ledger)
            }
        };
        Ok(Resolved {
            partition,
            offsets,
            source,
        })
    }

    async fn by_record_time(
        &self,
        question: &Question,
        topic_id: &TopicId,
        partition: Partition,
        window: Window,
        mut facts: Facts,
    ) -> Result<(Interval, Source), Error> {
        let asked = place(&question.topic, partition);
        facts.indexed_from = self.0.purger.indexed_from(&question.data_type, &asked).await?;
        let first = facts.first.unwrap_or(facts.log.end);
        let members = self
            .coverage(&asked, topic_id, Interval::new(first, facts.log.end))
            .await?;
        let read = members
            .iter()
            .filter(|member| matches!(member.kind, CoverageKind::Live | CoverageKind::Attested));
        facts.covered = read.map(reprise_shared::ledger::Coverage::interval).collect();
        // Below the log's start only the ledger knows; between that and the first record lies none of the window.
        let expired = Interval::new(Offset(0), facts.log.start);
        for within in [expired, Interval::new(first, ALL.end)] {
            let found = self.matching(question, topic_id, partition, window, within).await?;
            facts.matching = facts.matching.into_iter().chain(found).reduce(joined);
        }
        Ok(facts.resolve())
    }

    /// Returns the positions from the first to the last range with a time in the window.
    async fn matching(
        &self,
        question: &Question,
        topic_id: &TopicId,
        partition: Partition,
        window: Window,
        within: Interval,
    ) -> Result<Option<Interval>, Error> {
        let mut found: Option<Interval> = None;
        let asked = place(&question.topic, partition);
        self.each_range(&question.data_type, &asked, topic_id, within, |range| {
            if question.basis.of(range).is_some_and(|times| window.touches(times)) {
                let range = range.interval();
                found = Some(found.map_or(range, |found| joined(found, range)));
            }
        })
        .await?;
        Ok(found)
    }

    /// Returns the first and last time of the ranges that overlap positions of one partition; `None`: there is none.
    ///
    /// # Errors
    /// When Kafka or Redis does not answer, or there are more ranges than may be looked at.
    pub async fn times_of(
        &self,
        question: &Question,
        partition: Partition,
        within: Interval,
    ) -> Result<Option<(Millis, Millis)>, Error> {
        let topic = self.parts().kafka.topic(&question.topic).await?;
        let mut found: Option<(Millis, Millis)> = None;
        let asked = place(&question.topic, partition);
        self.each_range(&question.data_type, &asked, &topic.id, within, |range| {
            if let Some((first, last)) = question.basis.of(range) {
                let known = found.unwrap_or((first, last));
                found = Some((known.0.min(first), known.1.max(last)));
            }
        })
        .await?;
        Ok(found)
    }
}
