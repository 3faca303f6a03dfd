//! What is known of the fleet, as it goes over the wire.

use reprise_proto::v1::*;
use reprise_shared::catalog;
use reprise_shared::heartbeat::{self, Heartbeat, Role};
use reprise_shared::ingest_state::deferred::Owed;
use reprise_shared::ingest_state::stops::TypeState;

use crate::fleet::{self, Lag};
use crate::grpc::fields::timestamp;

pub(super) fn worker(heartbeat: Heartbeat) -> Worker {
    let role = match heartbeat.role {
        Role::Ingest => WorkerRole::Ingest,
        Role::Replay => WorkerRole::Replay,
    };
    let mut partitions = heartbeat.partitions;
    partitions.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Worker {
        worker_id: heartbeat.worker,
        role: role.into(),
        host: heartbeat.host,
        process_id: heartbeat.pid,
        start_time: Some(timestamp(heartbeat.started)),
        heartbeat_time: Some(timestamp(heartbeat.sent_at)),
        catalog_hash: heartbeat.catalog_hash,
        whitelist_version: heartbeat.whitelist.applied.map(|version| version.0),
        partitions: partitions.into_iter().map(partition).collect(),
        partitions_left_out: u32::try_from(heartbeat.partitions_left_out).unwrap_or(u32::MAX),
    }
}

fn partition(told: heartbeat::Partition) -> WorkerPartition {
    WorkerPartition {
        topic: told.topic,
        partition: told.partition.into(),
        status: told.status,
        reason: told.reason.unwrap_or_default(),
        committed: told.committed,
        position: told.position,
        end: told.end,
    }
}

/// At most so many owed intervals are shown of a data type.
const MOST_OWED: usize = 100;

pub(super) fn data_type(data_type: &catalog::DataType, state: Option<TypeState>, owed: Vec<Owed>) -> DataType {
    let owed_left_out = u32::try_from(owed.len().saturating_sub(MOST_OWED)).unwrap_or(u32::MAX);
    let etag = fleet::etag(state.as_ref());
    let key_distrusted = data_type.in_key && state.as_ref().is_some_and(|state| state.in_key_off);
    let stopped = state.filter(|state| state.stopped);
    let now = if stopped.is_some() {
        DataTypeState::Stopped
    } else {
        DataTypeState::Running
    };
    DataType {
        name: data_type.name.clone(),
        topic: data_type.topic.to_string(),
        table: data_type.table.clone(),
        state: now.into(),
        stop_time: stopped.as_ref().map(|state| timestamp(state.changed_at)),
        stop_reason: stopped.as_ref().map(|state| state.reason.clone()).unwrap_or_default(),
        stop_detail: stopped.map(|state| state.detail).unwrap_or_default(),
        filters_by_key: data_type.in_key && !key_distrusted,
        key_distrusted,
        etag,
        owed: owed.into_iter().take(MOST_OWED).map(owed_interval).collect(),
        owed_left_out,
    }
}

fn owed_interval(owed: Owed) -> OwedInterval {
    OwedInterval {
        topic: owed.topic.to_string(),
        partition: owed.interval.partition.into(),
        start: owed.interval.start.0,
        end: owed.interval.end.0,
        reason: owed.interval.reason,
        growing: owed.interval.open,
        job_id: owed.job.unwrap_or_default(),
    }
}

pub(super) fn lag(lag: Lag, data_type_stopped: bool) -> PartitionLag {
    let offsets = lag.offsets();
    let (worker_id, told) = lag.worker.unzip();
    let state = if lag.stop.is_some() {
        PartitionState::Stopped
    } else {
        PartitionState::Assigned
    };
    let reason = lag.stop.as_ref().map(ToString::to_string);
    PartitionLag {
        topic: lag.partition.topic.to_string(),
        partition: lag.partition.partition.0.into(),
        state: state.into(),
        status: told.as_ref().map(|told| told.status.clone()).unwrap_or_default(),
        reason: reason.or_else(|| told.as_ref()?.reason.clone()).unwrap_or_default(),
        worker_id: worker_id.unwrap_or_default(),
        committed: told.as_ref().and_then(|told| told.committed),
        end: told.as_ref().and_then(|told| told.end),
        lag: offsets,
        missing: lag
            .stop
            .and_then(|stop| stop.missing)
            .map(|(start, end)| MissingOffsets {
                start: start.0,
                end: end.0,
            }),
        data_type_stopped,
    }
}
