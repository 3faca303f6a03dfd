//! One run's part of the ledger: what was processed, what of it Redis has, and what to send next. Pure.
//!
//! The ranges of all types and the coverage of a partition grow together in one open segment. It is sealed after a
//! time or a number of records, when the whitelist version changes, and at a gap. Each call carries the open segment
//! and those sealed a moment ago in absolute values, from the oldest that Redis may lack. Coverage begins with the
//! call's oldest segment: what Redis lost before that stays a hole that can be proved.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::member::{Coverage, Millis, Range};
use super::segment::{ChunkTally, Identity, Segment, within};
use crate::position::Offset;

/// When segments are sealed, and how much may wait for Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A segment spans at most this long, 60 s by default.
    pub seal_after: Duration,
    /// A segment holds at most this many records (one chunk more when it is larger), 100,000 by default.
    pub seal_records: u64,
    /// A sealed segment is sent again for this long, 60 s by default: what a restarted Redis may have lost.
    pub resend_for: Duration,
    /// At most this many segments go in one call, 256 by default.
    pub max_segments_per_call: usize,
    /// Intake should pause at this many records that Redis does not have, 1,000,000 by default.
    pub max_unwritten_records: u64,
    /// Intake should pause when the oldest of them was processed this long ago, 10 min by default.
    pub max_unwritten_age: Duration,
    /// Intake should pause at this many segments that Redis does not have, 1,024 by default.
    pub max_unwritten_segments: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            seal_after: Duration::from_secs(60),
            seal_records: 100_000,
            resend_for: Duration::from_secs(60),
            max_segments_per_call: 256,
            max_unwritten_records: 1_000_000,
            max_unwritten_age: Duration::from_secs(600),
            max_unwritten_segments: 1_024,
        }
    }
}

/// A chunk that cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// Its end is not above its start.
    #[error("the chunk [{start}, {end}) is empty")]
    Empty {
        /// The chunk's start.
        start: Offset,
        /// The chunk's end.
        end: Offset,
    },
    /// It begins before the end of the last one: delivered twice within one run, or out of order.
    #[error("the chunk at {start} begins before {expected}, where the last one ended")]
    OutOfOrder {
        /// Where the last chunk ended.
        expected: Offset,
        /// Where this one starts.
        start: Offset,
    },
}

/// What one call carries for one partition: absolute values, so that sending it again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The run it comes from.
    pub identity: Identity,
    /// Ranges with the names of their types.
    pub ranges: Vec<(String, Range)>,
    /// Disjoint ascending intervals, all of the one kind that the run vouches for.
    pub coverage: Vec<Coverage>,
    end: Offset,
    records_before_end: u64,
    taken_at: Millis,
}

/// The ledger of one run of one partition.
#[derive(Clone, Debug)]
pub struct PartitionLedger {
    identity: Identity,
    type_names: Arc<[String]>,
    limits: Limits,
    /// With the time of sealing, ascending.
    sealed: VecDeque<(Millis, Segment)>,
    open: Option<Segment>,
    added_end: Option<Offset>,
    added_records: u64,
    durable_end: Option<Offset>,
    durable_records: u64,
    durable_at: Millis,
}

impl PartitionLedger {
    /// Begins a run. `type_names` are the catalog's data types in catalog order.
    pub fn new(identity: Identity, type_names: Arc<[String]>, limits: Limits) -> Self {
        Self {
            identity,
            type_names,
            limits,
            sealed: VecDeque::new(),
            open: None,
            added_end: None,
            added_records: 0,
            durable_end: None,
            durable_records: 0,
            durable_at: Millis(i64::MIN),
        }
    }

    /// Adds a completed chunk, in delivered order. A refused one changes nothing.
    pub fn add(&mut self, chunk: &ChunkTally) -> Result<(), AddError> {
        if chunk.end <= chunk.start {
            return Err(AddError::Empty {
                start: chunk.start,
                end: chunk.end,
            });
        }
        if let Some(expected) = self.added_end.filter(|end| chunk.start < *end) {
            return Err(AddError::OutOfOrder {
                expected,
                start: chunk.start,
            });
        }
        let records = chunk.records();
        if self
            .open
            .as_ref()
            .is_some_and(|open| !open.takes(chunk, records, &self.limits))
        {
            self.seal(chunk.first_processed);
        }
        self.open
            .get_or_insert_with(|| Segment::at(chunk, self.added_records))
            .grow(chunk, records);
        self.added_end = Some(chunk.end);
        self.added_records += records;
        Ok(())
    }

    /// Returns what to send now; `None` when Redis has had everything for long enough. Pass it to [`Self::written`]
    /// once Redis has it.
    pub fn pending(&mut self, now: Millis) -> Option<Update> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| !within(open.first_processed, now, self.limits.seal_after))
        {
            self.seal(now);
        }
        let durable = self.durable_end;
        while let Some((sealed_at, segment)) = self.sealed.front()
            && Some(segment.end) <= durable
            && !within(*sealed_at, now, self.limits.resend_for)
        {
            self.sealed.pop_front();
        }
        let kept = self.sealed.len() + usize::from(self.open.is_some());
        let max = self.limits.max_segments_per_call.max(1);
        // Where not everything fits, sending again has to wait, and then the newest unwritten ones.
        let spare = self
            .segments()
            .take_while(|segment| Some(segment.end) <= durable)
            .count();
        let sent: Vec<_> = self
            .segments()
            .skip(kept.saturating_sub(max).min(spare))
            .take(max)
            .collect();
        let last = sent.last()?;
        Some(Update {
            ranges: sent
                .iter()
                .flat_map(|segment| segment.ranges(&self.identity, &self.type_names))
                .collect(),
            coverage: coverage(&self.identity, &sent),
            end: last.end,
            records_before_end: last.records_before + last.records,
            taken_at: now,
            identity: self.identity.clone(),
        })
    }

    /// Notes that Redis has an update. One of another run, or an older one, changes nothing.
    pub fn written(&mut self, update: &Update) {
        if update.identity == self.identity && Some(update.end) > self.durable_end {
            self.durable_end = Some(update.end);
            self.durable_records = update.records_before_end;
        }
        if update.identity == self.identity {
            self.durable_at = self.durable_at.max(update.taken_at);
        }
    }

    /// Returns the position up to which Redis has this run; `None` before the first write. Kafka may be told it.
    pub fn durable_end(&self) -> Option<Offset> {
        self.durable_end
    }

    /// Returns the position up to which chunks were added.
    pub fn added_end(&self) -> Option<Offset> {
        self.added_end
    }

    /// Returns how many added records Redis does not have.
    pub fn unwritten_records(&self) -> u64 {
        self.added_records - self.durable_records
    }

    /// Returns how long ago the oldest added record that Redis does not have was processed; `None` when it has all.
    pub fn oldest_unwritten_age(&self, now: Millis) -> Option<Duration> {
        let oldest = self.segments().find(|segment| Some(segment.end) > self.durable_end)?;
        // Of a segment that Redis has in part, the rest was added after that part was taken.
        let begun_after_write = Some(oldest.start) >= self.durable_end;
        let since = if begun_after_write {
            oldest.first_processed
        } else {
            oldest.first_processed.max(self.durable_at)
        };
        Some(now.since(since))
    }

    /// Tells whether so much waits for Redis that intake should pause.
    pub fn is_over_limit(&self, now: Millis) -> bool {
        let segments = self
            .segments()
            .filter(|segment| Some(segment.end) > self.durable_end)
            .count();
        self.unwritten_records() >= self.limits.max_unwritten_records
            || segments >= self.limits.max_unwritten_segments
            || self
                .oldest_unwritten_age(now)
                .is_some_and(|age| age >= self.limits.max_unwritten_age)
    }

    fn seal(&mut self, now: Millis) {
        if let Some(segment) = self.open.take() {
            self.sealed.push_back((now, segment));
        }
    }

    fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.sealed.iter().map(|(_, segment)| segment).chain(&self.open)
    }
}

/// Joins adjacent segments.
fn coverage(identity: &Identity, segments: &[&Segment]) -> Vec<Coverage> {
    let mut joined: Vec<Coverage> = Vec::new();
    for segment in segments {
        match joined.last_mut() {
            Some(last) if last.end == segment.start => {
                last.end = segment.end;
                last.first_processed = last.first_processed.min(segment.first_processed);
                last.last_processed = last.last_processed.max(segment.last_processed);
            }
            _ => joined.push(Coverage {
                kind: identity.source.covers_as(),
                topic_id: identity.topic_id.clone(),
                data_type: None,
                start: segment.start,
                end: segment.end,
                first_processed: segment.first_processed,
                last_processed: segment.last_processed,
            }),
        }
    }
    joined
}

#[cfg(test)]
mod tests;
