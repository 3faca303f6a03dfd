//! From a delivered record to an open chunk: type, tombstone, filter. Pure but for the whitelist's snapshot.

use std::sync::Arc;

use reprise_shared::catalog::{TypeIndex, Unmatched};
use reprise_shared::filter::{Sampler, Verdict};
use reprise_shared::kafka;
use reprise_shared::matching::{Match, TopicPlan};
use reprise_shared::position::{Offset, TopicPartition};
use reprise_shared::whitelist::Snapshot;

use super::builder::{Builder, Delivered};
use super::partition::Epoch;
use crate::chunk::Stretch;
use crate::judge::{Admission, Judge};
use crate::types::Types;

/// A partition that is being read.
#[derive(Debug)]
pub struct Open {
    /// The partition.
    pub partition: TopicPartition,
    /// Its assignment.
    pub epoch: Epoch,
    /// What its chunks have in common.
    pub stretch: Arc<Stretch>,
    /// How its topic's records are told apart.
    pub plan: Arc<TopicPlan>,
    /// The next offset that may be taken: lower ones were delivered in this assignment already.
    pub expected: Offset,
    /// Its open chunk.
    pub builder: Option<Builder>,
}

/// Sorts records into chunks.
#[derive(Debug)]
pub struct Intake<J = Types> {
    judge: J,
    sampler: Sampler,
    max_payload: usize,
    headers: Vec<u8>,
}

impl<J: Judge> Intake<J> {
    /// Makes an intake; payloads above `max_payload` bytes are cut there and become dead letters.
    pub fn new(judge: J, max_payload: usize) -> Self {
        Self {
            judge,
            sampler: Sampler::default(),
            max_payload,
            headers: Vec::new(),
        }
    }

    /// Takes one record into the partition's open chunk, if there is one. `headers` calls back for each header of the
    /// record; it is asked once, and again where the record is kept. Ignores an offset below the expected one.
    pub fn take(
        &mut self,
        open: &mut Open,
        record: Delivered<'_>,
        headers: impl Fn(&mut dyn FnMut(&[u8], Option<&[u8]>)),
    ) {
        let Some(builder) = open.builder.as_mut().filter(|_| record.offset >= open.expected) else {
            return;
        };
        open.expected = record.offset.next();

        let mut matching = open.plan.begin();
        headers(&mut |name, value| matching.header(name, value));
        let (data_type, step) = match matching.finish() {
            Match::Type(data_type) => (
                Some(data_type),
                step(&self.judge, &mut self.sampler, builder.whitelist(), data_type, &record),
            ),
            Match::ByField if record.payload.is_some() => (None, Step::Decode { audit_only: false }),
            Match::None if record.payload.is_some() && open.plan.unmatched == Unmatched::DeadLetter => {
                (None, unmatched(&self.judge))
            }
            Match::None | Match::ByField => (None, Step::Skip),
        };
        let (offset, timestamp) = (record.offset, record.timestamp);
        match step {
            Step::Defer => builder.pass(data_type, offset, timestamp, |tally| tally.records.deferred += 1),
            Step::Skip => builder.pass(data_type, offset, timestamp, |tally| tally.records.skipped += 1),
            Step::Count => builder.pass(data_type, offset, timestamp, |tally| tally.records.processed += 1),
            Step::Filter => builder.pass(data_type, offset, timestamp, |tally| tally.records.filtered += 1),
            Step::Decode { audit_only } => {
                self.headers.clear();
                headers(&mut |name, value| kafka::headers::pack(name, value, &mut self.headers));
                let record = Delivered {
                    headers: &self.headers,
                    ..record
                };
                builder.keep(data_type, record, audit_only, self.max_payload);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Defer,
    Skip,
    Count,
    Filter,
    Decode { audit_only: bool },
}

fn unmatched(judge: &impl Judge) -> Step {
    match judge.admission(None) {
        Admission::Take => Step::Decode { audit_only: false },
        Admission::Count => Step::Count,
        Admission::Defer => Step::Defer,
        Admission::Skip => Step::Skip,
    }
}

fn step<J: Judge>(
    judge: &J,
    sampler: &mut Sampler,
    whitelist: &Snapshot,
    data_type: TypeIndex,
    record: &Delivered<'_>,
) -> Step {
    match judge.admission(Some(data_type)) {
        Admission::Take => {}
        Admission::Count if record.payload.is_some() => return Step::Count,
        Admission::Count => return Step::Skip,
        Admission::Defer => return Step::Defer,
        Admission::Skip => return Step::Skip,
    }
    if record.payload.is_none() {
        return Step::Skip;
    }
    if judge.judge_time(record.timestamp) == Verdict::Filtered {
        return Step::Filter;
    }
    // Without a key, or with an empty one, there is nothing to judge by; decode finds that key and id disagree.
    let key = record.key.filter(|key| !key.is_empty());
    let (true, Some(key)) = (judge.trusts_key(data_type), key) else {
        return Step::Decode { audit_only: false };
    };
    match judge.judge(whitelist, data_type, key) {
        Verdict::Pass => Step::Decode { audit_only: false },
        Verdict::Filtered if judge.audits_keys() && sampler.pick() => Step::Decode { audit_only: true },
        Verdict::Filtered => Step::Filter,
    }
}
