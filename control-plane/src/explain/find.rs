//! Finds the records that are asked for, and explains each.

use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::Timestamp;
use reprise_shared::catalog::TypeIndex;
use reprise_shared::dead_letters;
use reprise_shared::ingest_state::{deferred, stops, topics};
use reprise_shared::ledger::{Interval, Millis, Range, Reader as LedgerReader};
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};

use super::evidence::Letter;
use super::gather::Place;
use super::judge::Outcome;
use super::read::{Budget, Message, Reached};
use super::record::Record;
use super::window::{Known, Window, candidates};
use super::words;
use super::{Error, Explanation, Explanations, Ground, Inner, MOST_RECORDS};
use crate::kafka;

/// So many pages of the ledger are read for one partition; beyond them Kafka is read itself.
const MOST_PAGES: usize = 20;

/// What a search kept so far.
#[derive(Default)]
struct Kept {
    records: Vec<Record>,
    bytes: usize,
}

impl Inner {
    /// Looks a topic up, at the broker and in MySQL.
    pub(super) async fn ground(&self, topic: &TopicName) -> Result<Ground, Error> {
        let plan = self.topics.get(topic).cloned();
        let plan = plan.ok_or_else(|| Error::ForeignTopic(topic.clone()))?;
        let found = self.kafka.topic(topic).await.map_err(|error| match error {
            kafka::Error::TopicMissing(topic) => Error::NoTopic(topic),
            other => Error::Kafka(other),
        })?;
        let accepted = topics::accepted(&self.pool, topic).await?;
        let states = stops::type_states(&self.pool).await?;
        Ok(Ground {
            topic: topic.clone(),
            generation: accepted
                .filter(|accepted| accepted.topic_id == found.id)
                .map(|accepted| accepted.generation),
            topic_id: found.id,
            partitions: found.partitions,
            plan,
            distrusted: states
                .into_iter()
                .filter(|state| state.in_key_off)
                .map(|state| state.data_type)
                .collect(),
        })
    }

    /// Explains the record at an offset.
    pub(super) async fn one(
        &self,
        ground: &Ground,
        partition: Partition,
        offset: Offset,
    ) -> Result<Explanation, Error> {
        let mut places = self.places(ground, &[partition]).await?;
        let place = places.pop().ok_or(kafka::Error::Incomplete("ask for one partition"))?;
        if offset < place.log.start {
            return self.expired(ground, &place, offset).await;
        }
        if offset >= place.log.end {
            let (at, end) = (place.at, place.log.end);
            return Err(Error::AboveEnd { at, offset, end });
        }
        // To the end of the log: the next record, if there is a gap, may be far away.
        let within = Interval::new(offset, place.log.end);
        let take = |found: &mut Option<Record>, message: Message<'_, '_>| {
            *found = Some(message.record());
            ControlFlow::Break(())
        };
        let intervals = vec![(place.at.clone(), within)];
        let plan = Arc::clone(&ground.plan);
        let (found, reached) = self.reader.read(plan, intervals, self.budget(), None, take).await?;
        match found {
            Some(record) if record.offset == offset => self.explain(ground, &place, &record).await,
            None if reached == Reached::Limit => Err(Error::TooSlow(place.at)),
            other => Err(Error::NoRecord {
                at: place.at,
                offset,
                next: other.map(|record| record.offset),
            }),
        }
    }

    /// Explains the records of an id with times in a window.
    pub(super) async fn many(
        &self,
        ground: &Ground,
        data_type: TypeIndex,
        id: &str,
        window: Window,
    ) -> Result<Explanations, Error> {
        let numbers: Vec<Partition> = (0..ground.partitions)
            .filter_map(|number| u16::try_from(number).ok().map(Partition))
            .collect();
        let first = self.kafka.offsets_at(&ground.topic, &numbers, window.start).await?;
        let places = self.places(ground, &numbers).await?;
        let (mut records, mut intervals) = (Vec::new(), Vec::new());
        for (place, first) in places.iter().zip(first) {
            let known = self.known(data_type, place).await?;
            records.extend(self.expired_in(ground, data_type, place, window, &known));
            if let Some(first) = first {
                let found = candidates(place.log, first, window, &ground.topic_id, &known);
                intervals.extend(found.into_iter().map(|interval| (place.at.clone(), interval)));
            }
        }
        let (kept, reached) = self.search(ground, data_type, id, window, intervals).await?;
        let mut truncated = reached != Reached::End;
        for record in &kept.records {
            // One for each partition that was read, by their numbers.
            let place = places.get(usize::from(record.at.partition.0));
            if let Some(place) = place {
                records.push(self.explain(ground, place, record).await?);
            }
        }
        records.sort_by_key(|explained| (explained.at.partition, explained.offset));
        truncated |= records.len() > MOST_RECORDS;
        records.truncate(MOST_RECORDS);
        Ok(Explanations { records, truncated })
    }

    /// Reads intervals and keeps the records of an id.
    async fn search(
        &self,
        ground: &Ground,
        data_type: TypeIndex,
        id: &str,
        window: Window,
        intervals: Vec<(TopicPartition, Interval)>,
    ) -> Result<(Kept, Reached), Error> {
        let by_key = self.trusts_key(ground, data_type);
        let (plans, limits) = (Arc::clone(&self.plans), self.limits);
        let (id, most_bytes) = (id.to_owned(), self.config.max_bytes.as_u64());
        let take = move |kept: &mut Kept, message: Message<'_, '_>| {
            let other_key = by_key && message.key().is_some_and(|key| !key.is_empty() && key != id.as_bytes());
            let in_window = message.time().is_some_and(|time| window.contains(Millis(time)));
            if other_key || !in_window {
                return ControlFlow::Continue(());
            }
            let record = message.record();
            if !record.is_of(data_type, &id, by_key, &plans, &limits) {
                return ControlFlow::Continue(());
            }
            let bytes = kept.bytes + message.size();
            if kept.records.len() >= MOST_RECORDS || (!kept.records.is_empty() && bytes as u64 > most_bytes) {
                return ControlFlow::Break(());
            }
            kept.bytes = bytes;
            kept.records.push(record);
            ControlFlow::Continue(())
        };
        let plan = Arc::clone(&ground.plan);
        let read = self.reader.read(plan, intervals, self.budget(), Kept::default(), take);
        Ok(read.await?)
    }

    /// Reads what the ledger has of a type in a partition, also of what Kafka has deleted.
    async fn known(&self, data_type: TypeIndex, place: &Place) -> Result<Known, Error> {
        let name = &self.plans.catalog().data_type(data_type).name;
        let within = Interval::new(Offset(0), place.log.end);
        let mut known = Known {
            indexed_from: self.purger.indexed_from(name, &place.at).await?,
            ..Known::default()
        };
        let mut known_to = place.log.end;
        let mut cursor = None;
        for page_number in 1.. {
            let limit = LedgerReader::MAX_PAGE;
            let page = self.ledger.ranges(name, &place.at, within, cursor, limit).await?;
            known.ranges.extend(page.members);
            cursor = page.next;
            match cursor {
                // What begins from here on is not known, and so has to be read.
                Some(next) if page_number == MOST_PAGES => {
                    known_to = next.start;
                    break;
                }
                Some(_) => {}
                None => break,
            }
        }
        let limit = LedgerReader::MAX_PAGE;
        known.coverage = self.ledger.coverage(&place.at, within, None, limit).await?.members;
        for member in &mut known.coverage {
            member.end = member.end.min(known_to);
        }
        Ok(known)
    }

    /// Says what is left of a record that Kafka has deleted.
    async fn expired(&self, ground: &Ground, place: &Place, offset: Offset) -> Result<Explanation, Error> {
        let (partition, topic_id) = (place.at.partition, &ground.topic_id);
        let letters = dead_letters::of_record(&self.pool, topic_id, partition, offset, 1).await?;
        let catalog = self.plans.catalog();
        let mut explanation = Explanation {
            at: place.at.clone(),
            offset,
            data_type: None,
            id: None,
            time: None,
            outcome: Outcome::Expired,
            whitelist: None,
            words: String::new(),
            letter: None,
        };
        if let Some((origin, stored)) = letters.first() {
            let letter = Letter::from(stored);
            explanation.outcome = Outcome::DeadLettered;
            explanation.data_type = catalog.find_data_type(&origin.data_type);
            explanation.words = words::expired_letter(&place.at, place.log, &letter);
            explanation.letter = letter.id;
            return Ok(explanation);
        }
        let (mut ranges, mut passed_over) = (Vec::new(), Vec::new());
        for (index, data_type) in catalog.types_of_topic(&ground.topic) {
            let found = self.ranges_at(ground, index, &place.at, offset).await?;
            ranges.extend(found.into_iter().map(|range| (data_type.name.as_str(), range)));
            let name = &data_type.name;
            let interval = deferred::covering(&self.pool, name, &place.at, topic_id, offset).await?;
            passed_over.extend(interval.map(|_| name.as_str()));
        }
        explanation.words = words::expired(&place.at, offset, place.log, &ranges, &passed_over);
        Ok(explanation)
    }

    /// Says which records of a type with times in a window Kafka has deleted, if any: whose they were is not known.
    fn expired_in(
        &self,
        ground: &Ground,
        data_type: TypeIndex,
        place: &Place,
        window: Window,
        known: &Known,
    ) -> Option<Explanation> {
        let lost: Vec<&Range> = known
            .ranges
            .iter()
            .filter(|range| range.topic_id == ground.topic_id && window.meets(range) && range.start < place.log.start)
            .collect();
        let start = lost.iter().map(|range| range.start).min()?;
        let end = lost.iter().map(|range| range.end).max()?.min(place.log.start);
        let name = &self.plans.catalog().data_type(data_type).name;
        Some(Explanation {
            at: place.at.clone(),
            offset: start,
            data_type: Some(data_type),
            id: None,
            time: None,
            outcome: Outcome::Expired,
            whitelist: None,
            words: words::expired_in(&place.at, place.log, Interval::new(start, end), name),
            letter: None,
        })
    }

    fn budget(&self) -> Budget {
        Budget {
            records: self.config.max_records,
            time: self.config.max_reading,
        }
    }
}

/// Turns Kafka's time into ours.
pub(super) fn timestamp(time: Option<i64>) -> Option<Timestamp> {
    Timestamp::from_millisecond(time?).ok()
}
