//! Plans, as they go over the wire.

use reprise_proto::v1::*;
use reprise_shared::jobs::Overlap;

use super::show;
use crate::grpc::fields::timestamp;
use crate::jobs::create::Kept;
use crate::planner::draft;
use crate::planner::wanted::Source;

/// So many ids of a list are shown.
const FIRST_IDS: usize = 20;
/// So many partitions, missing intervals and overlaps are shown; the counts of the plan are of all.
const MOST: usize = 1_000;

pub(super) fn answer(kept: Kept) -> PlanJobResponse {
    PlanJobResponse {
        plan_token: kept.token.hyphenated().to_string(),
        expire_time: Some(timestamp(kept.expires_at)),
        plan: Some(plan(kept)),
    }
}

fn plan(kept: Kept) -> JobPlan {
    let (plan, overlaps) = (kept.plan, kept.overlaps);
    let draft = plan.draft;
    JobPlan {
        task_count: u32::try_from(draft.slices.len()).unwrap_or(u32::MAX),
        positions: draft.positions(),
        estimated_records: draft.records(),
        uncovered_positions: draft.uncovered(),
        duration_at_rate: draft
            .duration_at(plan.ask.max_records_per_second)
            .and_then(show::duration),
        partitions: draft.partitions.iter().take(MOST).map(partition).collect(),
        filters: draft.filters.iter().take(MOST).map(|ids| filter(ids)).collect(),
        resolved_values: plan.resolved.into_iter().map(resolved).collect(),
        missing: draft
            .missing
            .iter()
            .take(MOST)
            .cloned()
            .map(|one| show::missing(&one.into()))
            .collect(),
        overlaps: overlaps.into_iter().take(MOST).map(overlap).collect(),
        notes: draft.notes,
        needs_admin: plan.needs_admin,
        whitelist_version: plan.whitelist_version.0,
        catalog_hash: plan.catalog_hash,
    }
}

fn partition(partition: &draft::Partition) -> PlannedPartition {
    let source = match partition.source {
        Source::Request => PlanSource::Request,
        Source::Ledger => PlanSource::Ledger,
        Source::Broker => PlanSource::Broker,
    };
    PlannedPartition {
        data_type: partition.data_type.clone(),
        topic: partition.topic.to_string(),
        partition: partition.partition.0.into(),
        offsets: Some(OffsetInterval {
            start: partition.start.0,
            end: partition.end.0,
        }),
        positions: partition.positions,
        task_count: partition.tasks,
        estimated_records: partition.records,
        uncovered_positions: partition.uncovered,
        source: source.into(),
    }
}

fn filter(ids: &[String]) -> PlannedFilter {
    PlannedFilter {
        id_count: ids.len() as u64,
        first_ids: ids.iter().take(FIRST_IDS).cloned().collect(),
    }
}

fn resolved(resolved: crate::planner::Resolved) -> ResolvedValue {
    ResolvedValue {
        lookup: resolved.lookup,
        value: resolved.value,
        ids: resolved.ids,
    }
}

fn overlap(overlap: Overlap) -> JobOverlap {
    JobOverlap {
        job_id: overlap.job.to_string(),
        data_type: overlap.data_type,
        topic: overlap.topic_partition.topic.to_string(),
        partition: overlap.topic_partition.partition.0.into(),
        offsets: Some(OffsetInterval {
            start: overlap.start.0,
            end: overlap.end.0,
        }),
        state: show::state(overlap.state).into(),
    }
}
