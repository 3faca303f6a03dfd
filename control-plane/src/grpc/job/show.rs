//! Jobs, tasks and what they found, as they go over the wire.

use std::time::Duration;

use jiff::Timestamp;
use reprise_proto::v1::{self, *};
use reprise_shared::jobs::{self, Cursor, JobId, PartitionProgress as Part, Phase, Progress, WriteCounts};
use reprise_shared::position::SourcePosition;

use super::spec;
use crate::grpc::fields::timestamp;
use crate::jobs::read::Snapshot;
use crate::jobs::{Jobs, etag};

/// So many partitions and missing intervals are shown of a job.
const MOST: usize = 1_000;

/// Shows a job without its progress.
pub fn job(job: &jobs::Job) -> v1::Job {
    v1::Job {
        job_id: job.id.to_string(),
        spec: spec::shown(&job.spec),
        state: state(job.state).into(),
        reason: job.reason.clone(),
        detail: job.detail.clone(),
        priority: job.priority.into(),
        max_records_per_second: job.max_records_per_second.unwrap_or(0),
        catalog_hash: job.catalog_hash.clone(),
        whitelist_version: job.whitelist_version.0,
        estimated_records: job.estimated_records,
        created_by: job.created_by.clone(),
        create_time: Some(timestamp(job.created_at)),
        start_time: job.started_at.map(timestamp),
        finish_time: job.finished_at.map(timestamp),
        progress: None,
        missing: Vec::new(),
        etag: etag(job.revision),
    }
}

/// Shows a job with everything. `rate`: records a second.
pub(super) fn whole(snapshot: &Snapshot, rate: Option<f64>) -> v1::Job {
    v1::Job {
        progress: Some(progress(&snapshot.progress, rate, snapshot.job.state.is_final())),
        missing: snapshot.missing.iter().take(MOST).map(missing).collect(),
        ..job(&snapshot.job)
    }
}

/// Returns how many records a second a job read on average.
#[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
pub(super) fn average(jobs: &Jobs, snapshot: &Snapshot) -> Option<f64> {
    let time = jobs.running_for(&snapshot.job)?.as_secs_f64();
    (time > 0.0).then(|| snapshot.progress.read.read as f64 / time)
}

#[expect(clippy::cast_precision_loss, reason = "a share is a float")]
fn progress(progress: &Progress, rate: Option<f64>, is_final: bool) -> JobProgress {
    let left = progress.positions.saturating_sub(progress.positions_done);
    let done = if progress.positions == 0 {
        f64::from(u8::from(is_final))
    } else {
        progress.positions_done as f64 / progress.positions as f64
    };
    // Of positions, as far as they were done in the time that the records took.
    let per_record = progress.positions_done as f64 / (progress.read.read.max(1)) as f64;
    let speed = rate.map(|rate| rate * per_record).filter(|speed| *speed > 0.0);
    let time_left = speed.filter(|_| !is_final).map(|speed| left as f64 / speed);
    let partitions = progress.partitions.iter().take(MOST);
    JobProgress {
        task_count: progress.tasks,
        tasks_done: progress.tasks_done,
        tasks_running: progress.tasks_running,
        positions: progress.positions,
        positions_done: progress.positions_done,
        percent: (done * 1_000.0).floor() / 10.0,
        records_read: progress.read.read,
        records_filtered: progress.read.filtered,
        records_skipped: progress.read.skipped,
        bytes_read: progress.read.bytes,
        rows: Some(rows(&progress.written)),
        records_per_second: rate.map_or(0.0, |rate| (rate * 10.0).round() / 10.0),
        time_left: time_left.and_then(|seconds| duration(Duration::try_from_secs_f64(seconds.ceil()).ok()?)),
        hold_reasons: progress.hold_reasons.clone(),
        partitions: partitions.map(part).collect(),
    }
}

fn part(part: &Part) -> PartitionProgress {
    PartitionProgress {
        topic: part.topic_partition.topic.to_string(),
        partition: part.topic_partition.partition.0.into(),
        task_count: part.tasks,
        tasks_done: part.tasks_done,
        positions: part.positions,
        positions_done: part.positions_done,
        position: part.position.map(|position| position.0),
        end: part.end.0,
        records_read: part.records_read,
    }
}

fn rows(counts: &WriteCounts) -> RowCounts {
    RowCounts {
        inserted: counts.inserted,
        updated: counts.updated,
        unchanged: counts.unchanged,
        stale: counts.stale,
        superseded: counts.superseded,
        dead_lettered: counts.dead_lettered,
        deleted: counts.deleted,
        missing: counts.missing,
        different: counts.different,
        older: counts.older,
    }
}

/// Shows positions that are missing.
pub(super) fn missing(missing: &jobs::Missing) -> JobMissing {
    let reason = match missing.reason {
        jobs::MissingReason::Expired => MissingReason::Expired,
        jobs::MissingReason::Truncated => MissingReason::Truncated,
        jobs::MissingReason::Recreated => MissingReason::Recreated,
    };
    JobMissing {
        data_type: missing.data_type.clone(),
        topic: missing.topic_partition.topic.to_string(),
        partition: missing.topic_partition.partition.0.into(),
        offsets: Some(OffsetInterval {
            start: missing.start.0,
            end: missing.end.0,
        }),
        reason: reason.into(),
    }
}

/// Shows a state.
pub(super) fn state(state: jobs::JobState) -> JobState {
    match state {
        jobs::JobState::Pending => JobState::Pending,
        jobs::JobState::Running => JobState::Running,
        jobs::JobState::Pausing => JobState::Pausing,
        jobs::JobState::Paused => JobState::Paused,
        jobs::JobState::Cancelling => JobState::Cancelling,
        jobs::JobState::Succeeded => JobState::Succeeded,
        jobs::JobState::Partial => JobState::Partial,
        jobs::JobState::Failed => JobState::Failed,
        jobs::JobState::Cancelled => JobState::Cancelled,
    }
}

/// Shows a task.
pub(super) fn task(task: jobs::Task) -> Task {
    let state = match task.state {
        jobs::TaskState::Pending => TaskState::Pending,
        jobs::TaskState::Running => TaskState::Running,
        jobs::TaskState::Done => TaskState::Done,
        jobs::TaskState::Failed => TaskState::Failed,
        jobs::TaskState::Cancelled => TaskState::Cancelled,
    };
    Task {
        number: task.id.number,
        topic: task.slice.topic_partition.topic.to_string(),
        partition: task.slice.topic_partition.partition.0.into(),
        data_type: task.slice.data_type,
        offsets: Some(OffsetInterval {
            start: task.slice.start.0,
            end: task.slice.end.0,
        }),
        state: state.into(),
        cleaning: task.phase == Phase::Clean,
        position: task.checkpoint.0,
        worker_id: task.owner,
        attempts: task.attempts,
        reason: task.reason,
        error: task.error,
        hold_reason: task.hold_reason,
        records_read: task.read.read,
        records_filtered: task.read.filtered,
        records_skipped: task.read.skipped,
        rows: Some(rows(&task.written)),
        start_time: task.started_at.map(timestamp),
        finish_time: task.finished_at.map(timestamp),
    }
}

/// Shows what a VERIFY found.
pub(super) fn mismatch(found: jobs::Mismatch) -> Mismatch {
    let kind = match found.kind {
        jobs::MismatchKind::Missing => MismatchKind::Missing,
        jobs::MismatchKind::Different => MismatchKind::Different,
        jobs::MismatchKind::Older => MismatchKind::Older,
    };
    Mismatch {
        data_type: found.data_type,
        kind: kind.into(),
        key_json: found.row_key,
        differences_json: found.differences,
        source: source(&found.source_position),
        stored_source: found.stored_position.as_deref().and_then(source),
    }
}

fn source(position: &[u8]) -> Option<RowSource> {
    let position = SourcePosition::from_bytes(position)?;
    Some(RowSource {
        generation: position.generation().0.into(),
        partition: position.partition().0.into(),
        offset: position.offset().0,
        row: position.row().0,
    })
}

/// Returns where a page after a job begins, as a page's token holds it.
pub(super) fn place(job: &jobs::Job) -> (i64, String) {
    (job.created_at.as_millisecond(), job.id.to_string())
}

/// Reads what [`place`] wrote.
pub(super) fn cursor((created_ms, id): &(i64, String)) -> Option<Cursor> {
    Some(Cursor {
        created_at: Timestamp::from_millisecond(*created_ms).ok()?,
        id: JobId::parse(id)?,
    })
}

/// Turns a duration of ours into one of the wire; `None` where it does not fit.
pub(super) fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}
