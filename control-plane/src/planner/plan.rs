//! Makes a plan from an ask and the facts. Pure.

use reprise_shared::jobs::model::Mode;
use reprise_shared::ledger::{Interval, Millis, holes, union};
use reprise_shared::position::TopicName;

use super::ask::{Ask, Rebuild, Records, Replay, Work};
use super::draft::{Draft, Missing, Partition, Slice};
use super::estimate::{Expected, expected};
use super::facts::{Facts, PartitionFacts, TypeLedger, TypePassing};
use super::ids::Filters;
use super::label::{label, segments_of_all};
use super::notes::Notes;
use super::segments::{Segment, common, cut, holds, join, length};
use super::wanted::{Source, Wanted, by_offsets, wanted};

/// Positions that are not known to be empty are read along up to this length: a task costs more.
const LONGEST_GAP: u64 = 20_000;

/// What a plan may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A task has at most so many positions.
    pub max_slice: u64,
    /// A job has at most so many tasks.
    pub max_tasks: u32,
    /// The lists of a job have at most so many ids together.
    pub max_filter_ids: u64,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Kafka has deleted some of it.
    #[error("Kafka has deleted some of what is asked for")]
    Expired(Vec<Missing>),
    /// It comes to too many tasks.
    #[error("it comes to {tasks} tasks, and a job has at most {most}")]
    TooManyTasks {
        /// So many.
        tasks: usize,
        /// The limit.
        most: u32,
    },
    /// Its lists have too many ids.
    #[error("its lists come to {ids} ids, and a job has at most {most}")]
    TooManyIds {
        /// So many.
        ids: u64,
        /// The limit.
        most: u64,
    },
    /// OVERWRITE keeps the order of a partition, so it needs one interval there.
    #[error("what is asked for of {data_type} in {topic}:{partition} lies in {intervals} intervals")]
    NotConnected {
        /// The data type.
        data_type: String,
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: reprise_shared::position::Partition,
        /// So many.
        intervals: usize,
    },
}

/// Makes a plan.
///
/// # Errors
/// See [`Refusal`].
pub fn plan(ask: &Ask, facts: &Facts, limits: &Limits) -> Result<Draft, Refusal> {
    let mut maker = Maker {
        limits,
        draft: Draft::default(),
        filters: Filters::default(),
        notes: Notes::default(),
    };
    match &ask.work {
        Work::Replay(replay) => {
            for data_type in &replay.data_types {
                let Some(passing) = facts.types.get(data_type) else {
                    continue;
                };
                for partition in &facts.partitions {
                    if let Some(ledger) = partition.ledger.get(data_type) {
                        maker.replay(replay, data_type, passing, partition, ledger)?;
                    }
                }
            }
        }
        Work::Rebuild(rebuild) => facts
            .partitions
            .iter()
            .for_each(|partition| maker.rebuild(rebuild, partition)),
    }
    let Maker {
        mut draft,
        filters,
        notes,
        ..
    } = maker;
    if !draft.missing.is_empty() && !ask.allow_partial {
        return Err(Refusal::Expired(draft.missing));
    }
    if draft.slices.len() > limits.max_tasks as usize {
        return Err(Refusal::TooManyTasks {
            tasks: draft.slices.len(),
            most: limits.max_tasks,
        });
    }
    if filters.ids() > limits.max_filter_ids {
        return Err(Refusal::TooManyIds {
            ids: filters.ids(),
            most: limits.max_filter_ids,
        });
    }
    draft.filters = filters.into_lists();
    draft.notes = notes.into_lines();
    Ok(draft)
}

struct Maker<'a> {
    limits: &'a Limits,
    draft: Draft,
    filters: Filters,
    notes: Notes,
}

impl Maker<'_> {
    fn replay(
        &mut self,
        replay: &Replay,
        data_type: &str,
        passing: &TypePassing,
        partition: &PartitionFacts,
        ledger: &TypeLedger,
    ) -> Result<(), Refusal> {
        let mut wanted = wanted(replay, partition, ledger);
        if replay.compares() {
            // Live traffic did not write these, and was not to.
            let deferred = || ledger.deferred.iter().copied();
            let compared = wanted
                .positions
                .iter()
                .flat_map(|positions| holes(*positions, deferred()));
            let compared: Vec<Interval> = compared.collect();
            if compared != wanted.positions {
                self.notes.deferred(data_type, partition);
                wanted.positions = compared;
            }
        }
        let labelled = label(replay, passing, partition, ledger, &wanted, &mut self.filters);
        self.notes
            .of_partition(data_type, partition, &wanted, &labelled.unknown);
        if labelled.cannot_exclude {
            self.notes.cannot_exclude(data_type);
        }
        self.missing(data_type, partition, &labelled.expired);
        let window = match &replay.records {
            Records::Times(times) if times.by_record => Some(times.window()),
            Records::Times(_) | Records::Offsets(_) | Records::CatchUp { .. } => None,
        };
        let empty = labelled.empty_parts;
        let is_harmless = |gap| labelled.gaps_are_judged || holds(&empty, gap);
        let longest_gap = if replay.mode == Mode::Overwrite {
            u64::MAX
        } else {
            LONGEST_GAP
        };
        let segments = join(labelled.segments, longest_gap, is_harmless);
        let segments = if replay.mode == Mode::Overwrite {
            if segments.len() > 1 {
                return Err(Refusal::NotConnected {
                    data_type: data_type.to_owned(),
                    topic: partition.at.topic.clone(),
                    partition: partition.at.partition,
                    intervals: segments.len(),
                });
            }
            segments
        } else {
            cut(&segments, self.limits.max_slice)
        };
        let read: Vec<Interval> = segments.iter().map(|segment| segment.interval).collect();
        // What is read along between segments holds no record that counts.
        let counted = common(&union(read), &wanted.positions);
        let expected = expected(&counted, &partition.indexed(ledger), &ledger.ranges, window);
        let times = (
            window.and_then(|window| window.start),
            window.and_then(|window| window.end),
        );
        self.read(data_type, partition, &segments, times, expected, wanted.source);
        Ok(())
    }

    fn rebuild(&mut self, rebuild: &Rebuild, partition: &PartitionFacts) {
        let end = partition
            .committed
            .unwrap_or(partition.log.start)
            .min(partition.log.end);
        let asked = rebuild.partitions.iter();
        let asked: Vec<Interval> = asked
            .filter(|asked| asked.partition == partition.at.partition)
            .map(super::ask::PartitionOffsets::interval)
            .collect();
        let asked = if rebuild.partitions.is_empty() {
            vec![Interval::new(partition.log.start, end)]
        } else {
            asked
        };
        let wanted = by_offsets(partition, asked.into_iter(), end);
        self.notes.of_partition("", partition, &wanted, &[]);
        self.missing("", partition, &wanted.expired);
        // Uncut: each task attests one connected interval.
        let segments = segments_of_all(&wanted);
        let expected = Expected {
            records: length(wanted.positions.iter().copied()),
            uncovered: 0,
        };
        self.read("", partition, &segments, (None, None), expected, Source::Request);
    }

    fn missing(&mut self, data_type: &str, partition: &PartitionFacts, expired: &[Interval]) {
        let missing = expired.iter().map(|expired| Missing {
            data_type: data_type.to_owned(),
            topic: partition.at.topic.clone(),
            partition: partition.at.partition,
            start: expired.start,
            end: expired.end,
            recreated: false,
        });
        self.draft.missing.extend(missing);
    }

    fn read(
        &mut self,
        data_type: &str,
        partition: &PartitionFacts,
        segments: &[Segment],
        times: (Option<Millis>, Option<Millis>),
        expected: Expected,
        source: Source,
    ) {
        let bounds = segments.first().zip(segments.last());
        let bounds = bounds.map(|(first, last)| (first.interval.start, last.interval.end));
        let (start, end) = bounds.unwrap_or((partition.log.end, partition.log.end));
        self.draft.partitions.push(Partition {
            data_type: data_type.to_owned(),
            topic: partition.at.topic.clone(),
            partition: partition.at.partition,
            start,
            end,
            positions: length(segments.iter().map(|segment| segment.interval)),
            tasks: u32::try_from(segments.len()).unwrap_or(u32::MAX),
            records: expected.records,
            uncovered: expected.uncovered,
            source,
        });
        let slices = segments.iter().map(|segment| Slice {
            data_type: data_type.to_owned(),
            topic: partition.at.topic.clone(),
            topic_id: partition.topic_id.clone(),
            generation: partition.generation,
            partition: partition.at.partition,
            start: segment.interval.start,
            end: segment.interval.end,
            filter: segment.filter,
            record_time_from: times.0,
            record_time_to: times.1,
        });
        self.draft.slices.extend(slices);
    }
}

impl Wanted {
    /// Tells whether there is nothing to read.
    pub fn is_nothing(&self) -> bool {
        self.positions.is_empty()
    }
}
