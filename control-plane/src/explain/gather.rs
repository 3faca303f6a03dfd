//! Gathers what is on record about a record, and has it judged.

use std::collections::HashMap;

use reprise_shared::catalog::{LookupIndex, TypeIndex, Unmatched};
use reprise_shared::dead_letters::{self, Origin, State, StoredLetter};
use reprise_shared::fault::FaultClass;
use reprise_shared::ingest_state::{deferred, stops, topics};
use reprise_shared::ledger::{Interval, Range, Reader as LedgerReader};
use reprise_shared::position::{Offset, Partition, RowNumber, TopicGeneration, TopicPartition};
use reprise_shared::row::Row;

use super::evidence::{Content, Evidence, Filter, Letter, RowEvidence, Standing, Stored};
use super::find::timestamp;
use super::judge::judge;
use super::record::{Decoded, Kind, Record};
use super::table::{self, Guard};
use super::words::{self, Subject};
use super::{Error, Explanation, Ground, Inner};

/// An id is shown up to so many characters.
const LONGEST_ID: usize = 128;

/// A partition as it is now.
pub(super) struct Place {
    pub(super) at: TopicPartition,
    /// What Kafka has of it.
    pub(super) log: Interval,
    committed: Option<Offset>,
    first_start: Option<Offset>,
}

impl From<&StoredLetter> for Letter {
    fn from(stored: &StoredLetter) -> Self {
        Self {
            id: Some(stored.id),
            class: stored.class.clone(),
            state: Some(stored.state),
        }
    }
}

impl Inner {
    /// Asks how partitions stand.
    pub(super) async fn places(&self, ground: &Ground, partitions: &[Partition]) -> Result<Vec<Place>, Error> {
        let logs = self.kafka.logs(&ground.topic, partitions).await?;
        let committed = self.kafka.committed(&ground.topic, partitions).await?;
        let mut places = Vec::with_capacity(partitions.len());
        for ((partition, log), committed) in partitions.iter().zip(logs).zip(committed) {
            let first_start = match ground.generation {
                Some(generation) => topics::first_start(&self.pool, &ground.topic, generation, *partition).await?,
                None => None,
            };
            let at = TopicPartition {
                topic: ground.topic.clone(),
                partition: *partition,
            };
            places.push(Place {
                at,
                log,
                committed,
                first_start: first_start.map(|start| start.position),
            });
        }
        Ok(places)
    }

    /// Tells whether the workers judge records of a type by their keys.
    pub(super) fn trusts_key(&self, ground: &Ground, data_type: TypeIndex) -> bool {
        let declared = self.plans.catalog().data_type(data_type);
        declared.in_key && !ground.distrusted.contains(&declared.name)
    }

    /// Explains one record.
    pub(super) async fn explain(&self, ground: &Ground, place: &Place, record: &Record) -> Result<Explanation, Error> {
        let kind = record.kind(&self.plans, &self.limits);
        let data_type = match kind {
            Kind::Type(data_type) => Some(data_type),
            Kind::Unmatched(_) | Kind::Unreadable(_) => None,
        };
        let id = data_type.and_then(|data_type| record.id(data_type, &self.plans, &self.limits));
        let id: Option<String> = id.map(|id| id.chars().take(LONGEST_ID).collect());
        let evidence = self.evidence(ground, place, record, kind).await?;
        let finding = judge(&evidence);
        let declared = data_type.map(|data_type| self.plans.catalog().data_type(data_type));
        let subject = Subject {
            at: &record.at,
            offset: record.offset,
            log: place.log,
            data_type: declared.map_or("", |declared| &declared.name),
            table: declared.map_or("", |declared| &declared.table),
            id: id.as_deref(),
        };
        Ok(Explanation {
            words: words::words(&subject, &evidence, &finding),
            at: record.at.clone(),
            offset: record.offset,
            data_type,
            time: timestamp(record.time),
            outcome: finding.outcome(),
            whitelist: evidence.filter.version(),
            letter: finding.letter().and_then(|letter| letter.id),
            id,
        })
    }

    async fn evidence(&self, ground: &Ground, place: &Place, record: &Record, kind: Kind) -> Result<Evidence, Error> {
        let (at, offset) = (&record.at, record.offset);
        let mut letters = dead_letters::of_record(
            &self.pool,
            &ground.topic_id,
            at.partition,
            offset,
            self.config.max_rows.saturating_add(1),
        )
        .await?;
        let whole = letters.iter().position(|(origin, _)| origin.row == RowNumber::RECORD);
        let letter = whole.map(|place| Letter::from(&letters.swap_remove(place).1));
        let mut evidence = Evidence {
            standing: self.standing(ground, place, offset).await?,
            ranges: Vec::new(),
            deferred: None,
            letter,
            filter: Filter::Passed(None),
            content: match kind {
                Kind::Unreadable(class) => Content::Faulty(class),
                Kind::Unmatched(Unmatched::DeadLetter) if record.payload.is_some() => {
                    Content::Faulty(FaultClass::Unmatched)
                }
                Kind::Unmatched(Unmatched::Skip) => Content::Unmatched,
                Kind::Unmatched(Unmatched::DeadLetter) | Kind::Type(_) => Content::Tombstone,
            },
        };
        let Kind::Type(data_type) = kind else {
            return Ok(evidence);
        };
        let name = &self.plans.catalog().data_type(data_type).name;
        evidence.ranges = self.ranges_at(ground, data_type, at, offset).await?;
        evidence.deferred = deferred::covering(&self.pool, name, at, &ground.topic_id, offset).await?;
        if record.payload.is_none() {
            return Ok(evidence);
        }
        let by_key = self.trusts_key(ground, data_type);
        let generation = ground.generation.unwrap_or(TopicGeneration(0));
        let now = self.clock.now();
        let decoded = record.decode(data_type, generation, by_key, now, &self.plans, &self.limits);
        let key = record.filter_key().filter(|_| by_key);
        let id = key.or_else(|| Some(decoded.as_ref().ok()?.id.as_bytes()));
        evidence.filter = self.filter(&evidence.ranges, data_type, id).await?;
        evidence.content = match decoded {
            Ok(decoded) => self.rows(ground, data_type, decoded, letters, at).await?,
            Err(class) => Content::Faulty(class),
        };
        Ok(evidence)
    }

    async fn standing(&self, ground: &Ground, place: &Place, offset: Offset) -> Result<Standing, Error> {
        if ground.generation.is_none() {
            return Ok(Standing::NotAccepted);
        }
        let within = Interval::new(offset, offset.next());
        let coverage = self
            .ledger
            .coverage(&place.at, within, None, LedgerReader::MAX_PAGE)
            .await?;
        let (first_start, committed) = (place.first_start, place.committed);
        let mut standing = Standing::of(offset, &ground.topic_id, &coverage.members, first_start, committed);
        if let Standing::Ahead { stop, .. } = &mut standing {
            let stopped = stops::partition_stop(&self.pool, &place.at).await?;
            *stop = stopped.map(|stopped| stopped.to_string());
        }
        Ok(standing)
    }

    /// Reads the ranges of a type that hold an offset, of this incarnation of the topic.
    pub(super) async fn ranges_at(
        &self,
        ground: &Ground,
        data_type: TypeIndex,
        at: &TopicPartition,
        offset: Offset,
    ) -> Result<Vec<Range>, Error> {
        let name = &self.plans.catalog().data_type(data_type).name;
        let within = Interval::new(offset, offset.next());
        let page = self
            .ledger
            .ranges(name, at, within, None, LedgerReader::MAX_PAGE)
            .await?;
        let mut ranges = page.members;
        ranges.retain(|range| range.topic_id == ground.topic_id && range.start <= offset && offset < range.end);
        Ok(ranges)
    }

    /// Finds out what the whitelist said when the record was processed: once let through is let through.
    async fn filter(&self, ranges: &[Range], data_type: TypeIndex, id: Option<&[u8]>) -> Result<Filter, Error> {
        let mut newest_first: Vec<&Range> = ranges.iter().collect();
        newest_first.sort_by_key(|range| std::cmp::Reverse(range.last_processed));
        let mut refused = None;
        for range in newest_first {
            let Some(version) = range.whitelist else { continue };
            let (Some(id), true) = (id, range.records.filtered > 0) else {
                return Ok(Filter::Passed(Some(version)));
            };
            let verdict = match self.whitelists.judge(version, data_type, id).await? {
                Some(judged) if judged.passed => return Ok(Filter::Passed(Some(version))),
                Some(judged) => Filter::Filtered(judged),
                None if range.records.filtered == range.records.consumed() => Filter::AllFiltered(version),
                None => Filter::Unknown(version),
            };
            refused.get_or_insert(verdict);
        }
        Ok(refused.unwrap_or(Filter::Passed(None)))
    }

    /// Completes the rows of a record and compares them with the table.
    async fn rows(
        &self,
        ground: &Ground,
        data_type: TypeIndex,
        mut decoded: Decoded,
        letters: Vec<(Origin, StoredLetter)>,
        at: &TopicPartition,
    ) -> Result<Content, Error> {
        let mut values: HashMap<LookupIndex, String> = HashMap::new();
        for &lookup in self
            .plans
            .lookups(data_type)
            .iter()
            .filter(|_| !decoded.drafts.is_empty())
        {
            // What is kept here may be older than what the workers used.
            self.lookups.invalidate(lookup, [decoded.id.as_str()]);
            let found = self.lookups.resolve(lookup, &[&decoded.id]).await?;
            let Some(value) = found.into_iter().next().flatten() else {
                return Ok(Content::Faulty(FaultClass::LookupMiss));
            };
            values.insert(lookup, value.as_ref().to_owned());
        }
        let faults = decoded.drafts.take_row_faults();
        let mut rows = Vec::new();
        let value = |lookup| values.get(&lookup).map_or("", String::as_str);
        if let Err(fault) = decoded.drafts.complete(value, &mut rows) {
            return Ok(Content::Faulty(fault.class));
        }
        let most = self.config.max_rows as usize;
        let left_out = rows.len().saturating_sub(most) + faults.len().saturating_sub(most);
        rows.truncate(most);
        let declared = self.plans.catalog().data_type(data_type);
        let guards = table::stored(&self.pool, declared, &rows).await?;

        let mut letters: HashMap<RowNumber, Letter> = letters
            .iter()
            .filter(|(origin, stored)| origin.data_type == declared.name && stored.state != State::Redriven)
            .map(|(origin, stored)| (origin.row, Letter::from(stored)))
            .collect();
        let mut evidence: Vec<RowEvidence> = Vec::with_capacity(rows.len() + faults.len());
        for (row, fault) in faults.into_iter().take(most) {
            let letter = letters.remove(&row);
            evidence.push(RowEvidence::Letter(letter.unwrap_or_else(|| Letter::gone(fault.class))));
        }
        let mut sources = HashMap::new();
        for (row, guard) in rows.iter().zip(guards) {
            let is_there = guard
                .as_ref()
                .is_some_and(|guard| guard.position == row.position.as_bytes());
            let letter = letters.remove(&row.position.row()).filter(|_| !is_there);
            evidence.push(match letter {
                Some(letter) => RowEvidence::Letter(letter),
                None => RowEvidence::Row {
                    version: row.version,
                    position: row.position,
                    stored: self
                        .stored(ground, data_type, &decoded.id, row, guard, at, &mut sources)
                        .await?,
                },
            });
        }
        Ok(Content::Rows {
            rows: evidence,
            left_out,
        })
    }

    /// Adds to a stored row when its own record was processed. `sources` keeps what was found for other rows.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of `rows`, and all of them are its own"
    )]
    async fn stored(
        &self,
        ground: &Ground,
        data_type: TypeIndex,
        id: &str,
        row: &Row,
        guard: Option<Guard>,
        at: &TopicPartition,
        sources: &mut HashMap<(Partition, Offset), (Vec<Range>, bool)>,
    ) -> Result<Option<Stored>, Error> {
        let Some(guard) = guard else { return Ok(None) };
        let mut stored = Stored {
            guard,
            ranges: Vec::new(),
            written_at_once: false,
        };
        let Some(position) = stored.position() else {
            return Ok(Some(stored));
        };
        let own = (row.position.partition(), row.position.offset());
        let place = (position.partition(), position.offset());
        if Some(position.generation()) != ground.generation || place == own {
            return Ok(Some(stored));
        }
        if let Some(known) = sources.get(&place) {
            (stored.ranges, stored.written_at_once) = known.clone();
            return Ok(Some(stored));
        }
        let (partition, offset) = place;
        let source = TopicPartition {
            topic: at.topic.clone(),
            partition,
        };
        stored.ranges = self.ranges_at(ground, data_type, &source, offset).await?;
        let name = &self.plans.catalog().data_type(data_type).name;
        let (pool, topic_id) = (&self.pool, &ground.topic_id);
        let letters = dead_letters::of_record(pool, topic_id, partition, offset, 1).await?;
        let passed_over = deferred::covering(pool, name, &source, topic_id, offset).await?;
        // One key belongs to one id, whatever else its table says.
        let filter = self.filter(&stored.ranges, data_type, Some(id.as_bytes())).await?;
        let passed = matches!(filter, Filter::Passed(_));
        stored.written_at_once = letters.is_empty() && passed_over.is_none() && passed;
        sources.insert(place, (stored.ranges.clone(), stored.written_at_once));
        Ok(Some(stored))
    }
}
