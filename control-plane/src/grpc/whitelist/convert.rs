//! The whitelist, as it goes over the wire.

use reprise_proto::v1::*;
use reprise_shared::whitelist::Status;

use super::scope_name;
use crate::grpc::fields::timestamp;
use crate::whitelist::{
    Convergence, Copy, Entry, Holding, Kind, List, Member, Outcome, Record, Sample, Scope, State, Verdicts, Version,
};

/// Reads the name of a list: of a data type, or empty for the global one.
pub(super) fn scope(data_type: &str) -> Scope {
    if data_type.is_empty() {
        Scope::Global
    } else {
        Scope::Type(data_type.to_owned())
    }
}

pub(super) fn whitelist(list: &List, global: &List) -> Whitelist {
    Whitelist {
        data_type: scope_name(&list.scope),
        version: list.etag.0,
        entry_count: list.entries,
        unrestricted: list.entries == 0 && global.entries == 0,
        update_time: update_time(list),
        etag: list.etag.to_string(),
    }
}

pub(super) fn update_time(list: &List) -> Option<prost_types::Timestamp> {
    list.changed_at.map(timestamp)
}

/// Returns what an outcome alone tells of its list.
pub(super) fn after(outcome: &Outcome) -> Whitelist {
    Whitelist {
        data_type: scope_name(&outcome.scope),
        version: outcome.version.0,
        entry_count: outcome.entries,
        unrestricted: outcome.entries == 0,
        update_time: None,
        etag: outcome.version.to_string(),
    }
}

pub(super) fn entry(entry: Entry) -> WhitelistEntry {
    WhitelistEntry {
        id: entry.id,
        added_by: entry.added_by,
        add_time: Some(timestamp(entry.added_at)),
        note: entry.note,
        expire_time: entry.expires_at.map(timestamp),
    }
}

pub(super) fn checks(verdicts: Verdicts) -> CheckWhitelistResponse {
    let (decided_by, unrestricted) = (scope_name(&verdicts.decided_by), verdicts.unrestricted);
    let checks = verdicts.verdicts.into_iter().map(|verdict| WhitelistCheck {
        id: verdict.id,
        allowed: verdict.allowed,
        decided_by: decided_by.clone(),
        unrestricted,
        entry: verdict.entry.map(entry),
    });
    CheckWhitelistResponse {
        checks: checks.collect(),
        version: verdicts.version.0,
    }
}

pub(super) fn version(record: Record, sample: Sample) -> WhitelistVersion {
    let kind = match record.kind {
        Kind::Add => WhitelistChangeKind::Add,
        Kind::Remove => WhitelistChangeKind::Remove,
        Kind::Replace => WhitelistChangeKind::Replace,
        Kind::Expire => WhitelistChangeKind::Expire,
        Kind::Heal => WhitelistChangeKind::Heal,
        Kind::Import => WhitelistChangeKind::Import,
    };
    let outcome = match record.state {
        State::Intent => WhitelistChangeOutcome::Pending,
        State::Applied => WhitelistChangeOutcome::Applied,
        State::Failed => WhitelistChangeOutcome::Failed,
        State::Unknown => WhitelistChangeOutcome::Unknown,
    };
    WhitelistVersion {
        version: record.version.unwrap_or(record.base_version).0,
        data_type: scope_name(&record.scope),
        kind: kind.into(),
        outcome: outcome.into(),
        added_count: record.added,
        removed_count: record.removed,
        added_sample: sample.added,
        removed_sample: sample.removed,
        principal: record.principal,
        request_id: record.request_id.unwrap_or_default(),
        note: record.note,
        create_time: Some(timestamp(record.created_at)),
    }
}

pub(super) fn status(
    status: &crate::whitelist::Status,
    convergence: Convergence,
    members_known: bool,
) -> GetWhitelistStatusResponse {
    let redis_version = match &status.copy {
        Copy::Holds { head, .. } => Some(head.version.0),
        Copy::Missing | Copy::Unreachable(_) => None,
    };
    GetWhitelistStatusResponse {
        version: status.head.version.0,
        redis_version,
        applied_everywhere: members_known && convergence.is_applied(),
        drained_everywhere: members_known && convergence.is_drained(),
        members_known,
        workers: convergence
            .members
            .into_iter()
            .map(|member| worker(member, status.head.version))
            .collect(),
    }
}

fn worker(member: Member, current: Version) -> WorkerWhitelist {
    let mut wire = WorkerWhitelist {
        worker_id: member.worker,
        state: WorkerWhitelistState::Unknown.into(),
        ..WorkerWhitelist::default()
    };
    if let Holding::Says {
        status,
        applied,
        oldest_in_flight,
        age,
        sent_at,
        ..
    } = member.holding
    {
        let state = match status {
            _ if applied.is_none() => WorkerWhitelistState::Empty,
            Status::Regressed => WorkerWhitelistState::Regressed,
            Status::Unreachable => WorkerWhitelistState::Disconnected,
            Status::Ok | Status::Unknown if applied >= Some(current) => WorkerWhitelistState::Current,
            Status::Ok | Status::Unknown => WorkerWhitelistState::Behind,
        };
        wire.state = state.into();
        wire.applied_version = applied.map(|version| version.0);
        wire.oldest_version_in_flight = oldest_in_flight.map(|version| version.0);
        wire.age = age.and_then(|age| prost_types::Duration::try_from(age).ok());
        wire.heartbeat_time = Some(timestamp(sent_at));
    }
    wire
}
