//! A stored ask, as it goes over the wire.

use std::time::Duration;

use reprise_proto::v1::*;
use reprise_shared::jobs::Mode;

use super::super::show::duration;
use crate::grpc::fields::timestamp;
use crate::planner::ask::{self, Ask, Records, Replay, Work};

/// Shows what was asked for; `None` where another version of the program wrote it.
pub(in crate::grpc::job) fn shown(stored: &str) -> Option<JobSpec> {
    let ask: Ask = serde_json::from_str(stored).ok()?;
    Some(spec(ask))
}

pub(super) fn spec(ask: Ask) -> JobSpec {
    let work = match ask.work {
        Work::Replay(replay) => job_spec::Work::Replay(self::replay(replay)),
        Work::Rebuild(rebuild) => job_spec::Work::Rebuild(RebuildSpec {
            topic: rebuild.topic.to_string(),
            partitions: rebuild.partitions.into_iter().map(partition).collect(),
        }),
    };
    JobSpec {
        work: Some(work),
        max_records_per_second: ask.max_records_per_second.unwrap_or(0),
        priority: ask.priority.into(),
        allow_partial: ask.allow_partial,
        labels: ask.labels.into_iter().collect(),
    }
}

fn replay(replay: Replay) -> ReplaySpec {
    let mode = match replay.mode {
        Mode::Live => ReplayMode::Live,
        Mode::Overwrite => ReplayMode::Overwrite,
        Mode::Isolated => ReplayMode::Isolated,
        Mode::Verify => ReplayMode::Verify,
        Mode::Repair => ReplayMode::Repair,
    };
    ReplaySpec {
        data_types: replay.data_types,
        records: Some(records(replay.records)),
        ids: replay.ids,
        lookup_values: replay.lookup_values.into_iter().map(lookup_values).collect(),
        ignore_whitelist: replay.ignore_whitelist,
        mode: mode.into(),
        clean_first: replay.clean_first,
    }
}

fn records(records: Records) -> replay_spec::Records {
    match records {
        Records::Offsets(partitions) => replay_spec::Records::Offsets(ReplayOffsets {
            partitions: partitions.into_iter().map(partition).collect(),
        }),
        Records::Times(times) => replay_spec::Records::Times(self::times(&times)),
        Records::CatchUp { since } => replay_spec::Records::CatchUp(ReplayCatchUp { since_version: since.0 }),
    }
}

fn times(times: &ask::Times) -> ReplayTimes {
    let basis = if times.by_record {
        TimeBasis::Record
    } else {
        TimeBasis::Processed
    };
    let window = TimeWindow {
        start_time: Some(timestamp(times.start)),
        end_time: times.end.map(timestamp),
    };
    let disorder = times.max_disorder_ms.map(Duration::from_millis);
    ReplayTimes {
        window: Some(window),
        time_basis: basis.into(),
        max_disorder: disorder.and_then(duration),
    }
}

fn partition(asked: ask::PartitionOffsets) -> PartitionOffsets {
    PartitionOffsets {
        topic: asked.topic.to_string(),
        partition: asked.partition.0.into(),
        offsets: Some(OffsetInterval {
            start: asked.start.0,
            end: asked.end.0,
        }),
    }
}

fn lookup_values(asked: ask::LookupValues) -> LookupValues {
    LookupValues {
        lookup: asked.lookup,
        values: asked.values,
    }
}
