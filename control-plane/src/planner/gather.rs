//! Looks at partitions, ledger and whitelist, and puts together what a plan is made from.

use std::collections::{BTreeMap, BTreeSet};

use reprise_shared::ingest_state::{deferred, topics};
use reprise_shared::ledger::{Interval, Millis};
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};
use reprise_shared::whitelist::Version;

use super::ask::{Ask, Records, Replay, Times, Work};
use super::facts::{Facts, PartitionFacts};
use super::ids::Passing;
use super::lists::{asked_ids, versions};
use super::lookups::Resolved;
use super::{Error, Planner, Violation};

/// Every position. Offsets are below 2^53.
const ALL: Interval = Interval {
    start: Offset(0),
    end: Offset(1 << 53),
};

/// At most so many owed intervals of a topic are looked at.
const MOST_OWED: u32 = 10_000;

/// What was found.
pub(super) struct Gathered {
    pub(super) facts: Facts,
    pub(super) resolved: Vec<Resolved>,
    pub(super) whitelist_version: Version,
    pub(super) notes: Vec<String>,
}

impl Planner {
    /// Gathers everything for an ask.
    pub(super) async fn gather(&self, ask: &Ask) -> Result<Gathered, Error> {
        let mut facts = Facts {
            partitions: Vec::new(),
            types: BTreeMap::new(),
        };
        let mut left = self.config().max_ranges;
        for topic in self.topics(ask) {
            facts.partitions.extend(self.topic(ask, &topic, &mut left).await?);
        }
        let Some(replay) = ask.replay() else {
            let (head, _) = self.0.parts.whitelist.head().await?;
            return Ok(Gathered {
                facts,
                resolved: Vec::new(),
                whitelist_version: head.version,
                notes: Vec::new(),
            });
        };
        let resolved = self.resolve(replay).await?;
        let mut notes = notes_of(replay, &resolved);
        let asked = asked_ids(replay, &resolved);
        let versions = versions(replay, &facts);
        let most = self.config().max_versions;
        if versions.len() > most {
            return Err(Error::TooManyVersions {
                versions: versions.len(),
                most,
            });
        }
        let whitelist_version = self.passing(replay, &asked, versions, &mut facts, &mut notes).await?;
        Ok(Gathered {
            facts,
            resolved,
            whitelist_version,
            notes,
        })
    }

    fn topics(&self, ask: &Ask) -> BTreeSet<TopicName> {
        match &ask.work {
            Work::Replay(replay) => {
                let catalog = self.catalog();
                let types = replay.data_types.iter().filter_map(|name| catalog.find_data_type(name));
                types.map(|index| catalog.data_type(index).topic.clone()).collect()
            }
            Work::Rebuild(rebuild) => [rebuild.topic.clone()].into(),
        }
    }

    /// Looks at the partitions of one topic that an ask is about.
    async fn topic(&self, ask: &Ask, topic: &TopicName, left: &mut usize) -> Result<Vec<PartitionFacts>, Error> {
        let kafka = &self.0.parts.kafka;
        let known = kafka.topic(topic).await?;
        let accepted = topics::accepted(self.0.parts.database.pool(), topic).await?;
        let not_accepted = |problem| Error::NotAccepted {
            topic: topic.clone(),
            problem,
        };
        let accepted = accepted.ok_or_else(|| {
            not_accepted(format!(
                "no worker has read topic {topic} yet, so there is nothing to process again"
            ))
        })?;
        if accepted.topic_id != known.id {
            return Err(not_accepted(format!(
                "topic {topic} was deleted and created again, and ingest has not accepted that yet; let its partitions \
                 go on with ResumeIngest first"
            )));
        }
        let owed = deferred::owed(self.0.parts.database.pool(), topic, &known.id, MOST_OWED).await?;
        let numbers = self.partitions(ask, topic, known.partitions)?;
        let logs = kafka.logs(topic, &numbers).await?;
        let committed = kafka.committed(topic, &numbers).await?;
        let (firsts, beyonds) = self.places(ask, topic, &numbers, &logs).await?;
        let mut partitions = Vec::with_capacity(numbers.len());
        for (place, number) in numbers.into_iter().enumerate() {
            let mut partition = PartitionFacts {
                at: TopicPartition {
                    topic: topic.clone(),
                    partition: number,
                },
                topic_id: known.id.clone(),
                generation: accepted.generation,
                log: logs[place],
                committed: committed[place],
                first: firsts[place],
                beyond: beyonds[place],
                covered: Vec::new(),
                ledger: BTreeMap::new(),
            };
            if let Some(replay) = ask.replay() {
                self.ledger_of(replay, &mut partition, left).await?;
                for owed in owed.iter().filter(|owed| owed.partition == number.0) {
                    if let Some(ledger) = partition.ledger.get_mut(&owed.data_type) {
                        ledger.deferred.push(Interval::new(owed.start, owed.end));
                    }
                }
            }
            partitions.push(partition);
        }
        Ok(partitions)
    }

    /// Returns the partitions that are asked for, or all.
    fn partitions(&self, ask: &Ask, topic: &TopicName, count: usize) -> Result<Vec<Partition>, Error> {
        let (field, asked) = match &ask.work {
            Work::Replay(Replay {
                records: Records::Offsets(asked),
                ..
            }) => ("spec.replay.offsets.partitions", asked.as_slice()),
            Work::Rebuild(rebuild) if !rebuild.partitions.is_empty() => {
                ("spec.rebuild.partitions", rebuild.partitions.as_slice())
            }
            Work::Replay(_) | Work::Rebuild(_) => {
                return Ok((0..=u16::MAX).take(count).map(Partition).collect());
            }
        };
        let (mut numbers, mut violations) = (BTreeSet::new(), Vec::new());
        for (place, asked) in asked.iter().enumerate().filter(|(_, asked)| asked.topic == *topic) {
            if usize::from(asked.partition.0) < count {
                numbers.insert(asked.partition);
            } else {
                let problem = format!(
                    "is {}; topic {topic} has {count} partitions, from 0 on",
                    asked.partition
                );
                violations.push(Violation::new(format!("{field}[{place}].partition"), problem));
            }
        }
        if violations.is_empty() {
            Ok(numbers.into_iter().collect())
        } else {
            Err(Error::Fields(violations))
        }
    }

    /// Asks the broker where records of a window by record time may stand: the first one, and from where on none can.
    async fn places(
        &self,
        ask: &Ask,
        topic: &TopicName,
        numbers: &[Partition],
        logs: &[Interval],
    ) -> Result<(Vec<Option<Offset>>, Vec<Offset>), Error> {
        let ends = || logs.iter().map(|log| log.end);
        let times = ask.replay().and_then(|replay| match &replay.records {
            Records::Times(times) if times.by_record => Some(times),
            Records::Times(_) | Records::Offsets(_) | Records::CatchUp { .. } => None,
        });
        let Some((times, start)) = times.and_then(|times| Some((times, times.window().start?))) else {
            return Ok((vec![None; numbers.len()], ends().collect()));
        };
        let kafka = &self.0.parts.kafka;
        let firsts = kafka.offsets_at(topic, numbers, start).await?;
        let Some(last) = no_more_after(times) else {
            return Ok((firsts, ends().collect()));
        };
        let beyonds = kafka.offsets_at(topic, numbers, last).await?;
        let found = numbers.iter().copied().zip(beyonds.iter().copied());
        let found: Vec<_> = found.filter_map(|(number, beyond)| Some((number, beyond?))).collect();
        let times = kafka.first_times(topic, found).await?;
        // Where the time is not that of a record, nothing is known of the records that follow.
        let is_record = |number: &Partition| times.get(number).is_some_and(|time| *time >= last);
        let beyonds = numbers.iter().zip(beyonds).zip(ends());
        let beyonds = beyonds.map(|((number, beyond), end)| beyond.filter(|_| is_record(number)).unwrap_or(end));
        Ok((firsts, beyonds.collect()))
    }

    /// Reads the ledger of a partition, as far as a replay needs it.
    async fn ledger_of(&self, replay: &Replay, partition: &mut PartitionFacts, left: &mut usize) -> Result<(), Error> {
        let within = match &replay.records {
            Records::Offsets(asked) => {
                let asked = asked
                    .iter()
                    .filter(|asked| asked.topic == partition.at.topic && asked.partition == partition.at.partition);
                let asked = asked.map(super::ask::PartitionOffsets::interval);
                let hull = asked.reduce(crate::offsets::hull::joined);
                hull.map_or(ALL, |hull| super::segments::clip(hull, ALL))
            }
            Records::Times(_) | Records::CatchUp { .. } => ALL,
        };
        partition.covered = self.covered(&partition.at, &partition.topic_id, within).await?;
        let catalog = self.catalog();
        for name in &replay.data_types {
            let found = catalog.find_data_type(name).map(|index| catalog.data_type(index));
            if found.is_some_and(|data_type| data_type.topic == partition.at.topic) {
                let ledger = self
                    .type_ledger(name, &partition.at, &partition.topic_id, within, left)
                    .await?;
                partition.ledger.insert(name.clone(), ledger);
            }
        }
        Ok(())
    }
}

/// From the first record of this time on none of the window comes any more, if what is said of their disorder is right.
fn no_more_after(times: &Times) -> Option<Millis> {
    let disorder = i64::try_from(times.max_disorder_ms?).unwrap_or(i64::MAX);
    times.window().end.map(|end| Millis(end.0.saturating_add(disorder)))
}

fn notes_of(replay: &Replay, resolved: &[Resolved]) -> Vec<String> {
    let mut notes = Vec::new();
    if let Records::Times(times) = &replay.records
        && let (true, Some(disorder)) = (times.by_record, times.max_disorder())
    {
        notes.push(format!(
            "it is assumed that no record is more than {disorder:?} older than one before it"
        ));
    }
    if replay.names_ids() && asked_ids(replay, resolved) == Passing::Only(BTreeSet::new()) {
        notes.push("none of the lookup values was found, so nothing is replayed".to_owned());
    }
    notes
}
