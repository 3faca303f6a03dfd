//! Checks that a plan still holds when its job is created.

use std::collections::{BTreeMap, BTreeSet};

use reprise_shared::ledger::Interval;
use reprise_shared::position::{Partition, TopicId, TopicName};

use super::draft::Missing;
use super::plan::Refusal;
use super::{Error, Plan, Planner};

/// What a plan was made with and is not so any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outdated {
    /// The catalog declares its types otherwise.
    Catalog,
    /// A topic was deleted and created again.
    Topic(TopicName),
}

impl Planner {
    /// Checks catalog, topics and logs. What Kafka has deleted since becomes missing where the plan allows that.
    ///
    /// # Errors
    /// [`Refusal::Expired`] where it does not; why Kafka gave no answer.
    pub async fn refresh(&self, mut plan: Plan) -> Result<Result<Plan, Outdated>, Error> {
        if self.hash_of(&plan.ask) != plan.catalog_hash {
            return Ok(Err(Outdated::Catalog));
        }
        let mut partitions: BTreeMap<TopicName, (TopicId, BTreeSet<Partition>)> = BTreeMap::new();
        for slice in &plan.draft.slices {
            let entry = partitions.entry(slice.topic.clone());
            let (_, numbers) = entry.or_insert_with(|| (slice.topic_id.clone(), BTreeSet::new()));
            numbers.insert(slice.partition);
        }
        let mut starts = BTreeMap::new();
        for (topic, (id, numbers)) in partitions {
            if self.0.parts.kafka.topic(&topic).await?.id != id {
                return Ok(Err(Outdated::Topic(topic)));
            }
            let numbers: Vec<Partition> = numbers.into_iter().collect();
            let logs = self.0.parts.kafka.logs(&topic, &numbers).await?;
            for (number, log) in numbers.into_iter().zip(logs) {
                starts.insert((topic.clone(), number), log);
            }
        }
        let expired = expire(&mut plan, &starts);
        if !expired.is_empty() && !plan.ask.allow_partial {
            return Err(Refusal::Expired(expired).into());
        }
        plan.draft.missing.extend(expired);
        Ok(Ok(plan))
    }
}

/// Cuts slices at the starts of their logs, and returns what is cut off.
fn expire(plan: &mut Plan, logs: &BTreeMap<(TopicName, Partition), Interval>) -> Vec<Missing> {
    let mut expired = Vec::new();
    for slice in &mut plan.draft.slices {
        let log = logs.get(&(slice.topic.clone(), slice.partition));
        let Some(start) = log.map(|log| log.start).filter(|start| slice.start < *start) else {
            continue;
        };
        let to = start.min(slice.end);
        expired.push(Missing {
            data_type: slice.data_type.clone(),
            topic: slice.topic.clone(),
            partition: slice.partition,
            start: slice.start,
            end: to,
            recreated: false,
        });
        slice.start = to;
    }
    plan.draft.slices.retain(|slice| slice.start < slice.end);
    expired
}
