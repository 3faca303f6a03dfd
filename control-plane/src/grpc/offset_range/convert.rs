//! Offsets, times and what is known of them, between the wire and the domain.

use std::time::Duration;

use jiff::Timestamp;
use reprise_proto::v1::resolve_offsets_request;
use reprise_proto::v1::*;
use reprise_shared::catalog::DataType;
use reprise_shared::ledger::{Interval, Millis, Range};
use reprise_shared::position::{Offset, Partition, TopicName};

use crate::grpc::fields::{Fields, timestamp};
use crate::offsets::audit::Audited;
use crate::offsets::hull::Source;
use crate::offsets::pieces::{self, Piece, State};
use crate::offsets::resolve::Resolved;
use crate::offsets::window::{Basis, Window};

/// Every position. Offsets are below 2^53.
pub(super) const ALL: Interval = Interval {
    start: Offset(0),
    end: Offset(1 << 53),
};
/// Ranges are purged at this age when the request does not say.
const USUAL_AGE: Duration = Duration::from_secs(6 * 24 * 3_600);
/// Younger ranges are never purged: workers may still write them again.
const LEAST_AGE: Duration = Duration::from_secs(3_600);

/// What a question knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Times(Window),
    Offsets(Partition, Interval),
}

pub(super) fn partitions(fields: &mut Fields, numbers: &[u32]) -> Vec<Partition> {
    let mut partitions = Vec::with_capacity(numbers.len());
    for (place, number) in numbers.iter().enumerate() {
        match u16::try_from(*number) {
            Ok(number) => partitions.push(Partition(number)),
            Err(_) => fields.refuse(
                format!("partitions[{place}]"),
                format!("is {number}; at most 65535 can be"),
            ),
        }
    }
    partitions
}

pub(super) fn interval(fields: &mut Fields, offsets: Option<OffsetInterval>) -> Option<Interval> {
    let OffsetInterval { start, end } = offsets?;
    if end <= start {
        fields.refuse(
            "offsets",
            format!("ends at {end}, which is not after its start at {start}"),
        );
    }
    Some(Interval::new(Offset(start.min(ALL.end.0)), Offset(end.min(ALL.end.0))))
}

pub(super) fn window(fields: &mut Fields, times: Option<TimeWindow>) -> Option<Window> {
    let TimeWindow { start_time, end_time } = times?;
    let (start, end) = (
        fields.time("times.start_time", start_time),
        fields.time("times.end_time", end_time),
    );
    if let Some((start, end)) = start.zip(end)
        && end <= start
    {
        fields.refuse(
            "times",
            format!("ends at {end}, which is not after its start at {start}"),
        );
    }
    Some(Window::new(start, end))
}

pub(super) fn basis(fields: &mut Fields, basis: i32) -> Basis {
    match TimeBasis::try_from(basis) {
        Ok(TimeBasis::Unspecified | TimeBasis::Record) => Basis::Record,
        Ok(TimeBasis::Processed) => Basis::Processed,
        Err(_) => {
            fields.refuse("time_basis", format!("is {basis}, which is none of its values"));
            Basis::Record
        }
    }
}

pub(super) fn known(
    fields: &mut Fields,
    known: Option<resolve_offsets_request::Known>,
    partitions: &[Partition],
) -> Option<Known> {
    match known {
        Some(resolve_offsets_request::Known::Times(times)) => window(fields, Some(times)).map(Known::Times),
        Some(resolve_offsets_request::Known::Offsets(offsets)) => {
            let within = interval(fields, Some(offsets));
            if partitions.len() != 1 {
                let problem = format!("has {} partitions; offsets need exactly one", partitions.len());
                fields.refuse("partitions", problem);
            }
            Some(Known::Offsets(*partitions.first()?, within?))
        }
        None => {
            fields.refuse("times", "is required, or offsets");
            None
        }
    }
}

pub(super) fn older_than(fields: &mut Fields, age: Option<prost_types::Duration>) -> Duration {
    let Some(age) = age else {
        return USUAL_AGE;
    };
    match Duration::try_from(age) {
        Ok(age) if age >= LEAST_AGE => age,
        _ => {
            fields.refuse("older_than", "has to be at least one hour (3600s)");
            USUAL_AGE
        }
    }
}

pub(super) fn range(data_type: &DataType, partition: Partition, range: Range) -> OffsetRange {
    let times = range.first_record.zip(range.last_record);
    OffsetRange {
        data_type: data_type.name.clone(),
        topic: data_type.topic.to_string(),
        partition: partition.0.into(),
        offsets: Some(positions(range.interval())),
        records: range.records.consumed(),
        processed: range.records.processed,
        filtered: range.records.filtered,
        skipped: range.records.skipped,
        deferred: range.records.deferred,
        dead_lettered: range.records.dead_lettered,
        rows: range.rows.settled(),
        record_times: times.map(|(first, last)| from_first_to_last(first, last)),
        processing_times: Some(from_first_to_last(range.first_processed, range.last_processed)),
        whitelist_version: range.whitelist.map(|version| version.0),
        run_id: range.run.to_string(),
        topic_id: range.topic_id.to_string(),
    }
}

pub(super) fn offsets(topic: &TopicName, found: Resolved, times: Option<TimeWindow>) -> ResolvedOffsets {
    let source = match found.source {
        Source::Ledger => OffsetSource::Ledger,
        Source::Broker => OffsetSource::Broker,
    };
    ResolvedOffsets {
        topic: topic.to_string(),
        partition: found.partition.0.into(),
        offsets: Some(positions(found.offsets)),
        times,
        source: source.into(),
    }
}

pub(super) fn times(
    topic: &TopicName,
    partition: Partition,
    within: Interval,
    found: Option<(Millis, Millis)>,
) -> ResolvedOffsets {
    ResolvedOffsets {
        topic: topic.to_string(),
        partition: partition.0.into(),
        offsets: Some(positions(within)),
        times: found.map(|(first, last)| from_first_to_last(first, last)),
        source: OffsetSource::Ledger.into(),
    }
}

pub(super) fn coverage(topic: &TopicName, found: Audited) -> PartitionCoverage {
    PartitionCoverage {
        topic: topic.to_string(),
        partition: found.partition.0.into(),
        whole: pieces::is_whole(&found.pieces),
        intervals: found.pieces.into_iter().map(piece).collect(),
    }
}

fn piece(piece: Piece) -> CoverageInterval {
    let state = match piece.state {
        State::Covered => CoverageState::Covered,
        State::Attested => CoverageState::Attested,
        State::Lost => CoverageState::Lost,
        State::Expired => CoverageState::Expired,
        State::Hole => CoverageState::Hole,
        State::Deferred => CoverageState::Deferred,
    };
    CoverageInterval {
        offsets: Some(positions(piece.interval)),
        state: state.into(),
        data_type: piece.data_type.unwrap_or_default(),
    }
}

fn positions(interval: Interval) -> OffsetInterval {
    OffsetInterval {
        start: interval.start.0,
        end: interval.end.0,
    }
}

/// Times are known to the millisecond, and a window ends after its last one.
fn from_first_to_last(first: Millis, last: Millis) -> TimeWindow {
    let time = |time: i64| Timestamp::from_millisecond(time).ok().map(timestamp);
    TimeWindow {
        start_time: time(first.0),
        end_time: time(last.0.saturating_add(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_question_is_told() {
        let mut fields = Fields::new();
        let wrong = OffsetInterval { start: 5, end: 5 };
        known(&mut fields, Some(resolve_offsets_request::Known::Offsets(wrong)), &[]);
        known(&mut fields, None, &[]);
        basis(&mut fields, 9);
        partitions(&mut fields, &[1, 70_000]);
        let second = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        window(
            &mut fields,
            Some(TimeWindow {
                start_time: second(2),
                end_time: second(1),
            }),
        );
        for seconds in [3_599, -1] {
            older_than(&mut fields, Some(prost_types::Duration { seconds, nanos: 0 }));
        }
        let message = fields.finish().expect_err("eight faults").to_string();
        for told in [
            "offsets ends at 5,",
            "partitions has 0 partitions",
            "times is required",
            "time_basis is 9",
            "partitions[1] is 70000",
            "times ends at 1970",
        ] {
            assert!(message.contains(told), "{told} is missing: {message}");
        }
        assert_eq!(message.matches("older_than has").count(), 2, "{message}");
    }

    #[test]
    fn ages_are_six_days_unless_given() {
        let mut fields = Fields::new();
        let given = prost_types::Duration {
            seconds: 3_600,
            nanos: 0,
        };
        assert_eq!(older_than(&mut fields, Some(given)), LEAST_AGE);
        assert_eq!(older_than(&mut fields, None), USUAL_AGE);
        fields.finish().expect("no fault");
    }
}
