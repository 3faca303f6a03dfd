//! Which role each method needs: the whole table. A method that is not in it is not served to anybody.

use http::request::Parts;

use super::{auth::Caller, gate};
use crate::config::Role;
use crate::grpc::error::{Error, ErrorReason, quoted};

use Role::{Admin, Operator, Viewer};

/// Every method that is served, with the least role that may call it.
pub const METHODS: &[(&str, Role)] = &[
    ("/reprise.control.v1.WhitelistService/GetWhitelist", Viewer),
    ("/reprise.control.v1.WhitelistService/ListWhitelistEntries", Viewer),
    ("/reprise.control.v1.WhitelistService/AddWhitelistEntries", Operator),
    ("/reprise.control.v1.WhitelistService/RemoveWhitelistEntries", Operator),
    ("/reprise.control.v1.WhitelistService/ReplaceWhitelist", Operator),
    ("/reprise.control.v1.WhitelistService/CheckWhitelist", Viewer),
    ("/reprise.control.v1.WhitelistService/ListWhitelistVersions", Viewer),
    ("/reprise.control.v1.WhitelistService/GetWhitelistStatus", Viewer),
    ("/reprise.control.v1.OffsetRangeService/ListOffsetRanges", Viewer),
    ("/reprise.control.v1.OffsetRangeService/ResolveOffsets", Viewer),
    ("/reprise.control.v1.OffsetRangeService/AuditCoverage", Viewer),
    ("/reprise.control.v1.OffsetRangeService/PurgeOffsetRanges", Admin),
    ("/reprise.control.v1.OffsetRangeService/ExplainRecord", Viewer),
    ("/reprise.control.v1.FleetService/ListWorkers", Viewer),
    ("/reprise.control.v1.FleetService/ListDataTypes", Viewer),
    ("/reprise.control.v1.FleetService/GetLag", Viewer),
    ("/reprise.control.v1.FleetService/RefreshLookup", Operator),
    ("/reprise.control.v1.FleetService/PauseIngest", Operator),
    ("/reprise.control.v1.FleetService/ResumeIngest", Operator),
    // OVERWRITE, clean_first and large jobs need an admin, which CreateJob and RetryJob check. What goes on with a job as the
    // admin decided it (pause, resume, its rate and priority) is an operator's, so that nobody waits for an admin to stop one.
    ("/reprise.control.v1.JobService/PlanJob", Operator),
    ("/reprise.control.v1.JobService/CreateJob", Operator),
    ("/reprise.control.v1.JobService/GetJob", Viewer),
    ("/reprise.control.v1.JobService/ListJobs", Viewer),
    ("/reprise.control.v1.JobService/WatchJob", Viewer),
    ("/reprise.control.v1.JobService/UpdateJob", Operator),
    ("/reprise.control.v1.JobService/PauseJob", Operator),
    ("/reprise.control.v1.JobService/ResumeJob", Operator),
    ("/reprise.control.v1.JobService/CancelJob", Operator),
    ("/reprise.control.v1.JobService/RetryJob", Operator),
    ("/reprise.control.v1.JobService/ListTasks", Viewer),
    ("/reprise.control.v1.JobService/ListMismatches", Viewer),
    ("/reprise.control.v1.AuditService/ListAuditEvents", Operator),
    ("/grpc.health.v1.Health/Check", Viewer),
    ("/grpc.health.v1.Health/Watch", Viewer),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Viewer),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Viewer),
];

/// Finds a method's row.
pub fn find(path: &str) -> Option<(&'static str, Role)> {
    METHODS.iter().find(|(method, _)| *method == path).copied()
}

/// Judges callers by the table.
#[derive(Clone, Copy, Debug)]
pub struct Gate;

impl gate::Gate for Gate {
    async fn admit(&self, call: &mut Parts) -> Result<(), Error> {
        let path = call.uri.path();
        let Some((_, needed)) = find(path) else {
            let message = format!("{} is no method of this server", quoted(path));
            return Err(Error::new(ErrorReason::NotImplemented, message));
        };
        let Some(caller) = call.extensions.get::<Caller>() else {
            // A mistake of ours in the order of layers: nobody passes.
            return Err(Error::internal());
        };
        if caller.role >= needed {
            return Ok(());
        }
        let message = format!(
            "{} needs the role {}, and {} has the role {}",
            path.trim_start_matches('/'),
            needed.as_str(),
            quoted(&caller.principal),
            caller.role.as_str()
        );
        let error = Error::new(ErrorReason::RoleTooLow, message);
        Err(error
            .with("needed_role", needed.as_str())
            .with("role", caller.role.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Every method of every service that a descriptor set declares.
    fn declared(encoded: &[u8]) -> Vec<String> {
        let files = FileDescriptorSet::decode(encoded).expect("a descriptor set").file;
        let methods = files.iter().flat_map(|file| {
            file.service.iter().flat_map(|service| {
                let path = format!("/{}.{}", file.package(), service.name());
                service
                    .method
                    .iter()
                    .map(move |method| format!("{path}/{}", method.name()))
            })
        });
        methods.collect()
    }

    #[test]
    fn every_declared_method_is_in_the_table_and_nothing_else() {
        let mut served = BTreeSet::new();
        for set in [
            reprise_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            served.extend(declared(set));
        }
        let table: BTreeSet<String> = METHODS.iter().map(|(method, _)| (*method).to_owned()).collect();
        assert_eq!(table, served);
        assert_eq!(table.len(), METHODS.len(), "a method stands in the table twice");
    }

    #[test]
    fn what_changes_something_is_not_for_viewers() {
        const READS: [&str; 8] = [
            "Get",
            "List",
            "Check",
            "Watch",
            "Resolve",
            "Audit",
            "Explain",
            "ServerReflection",
        ];
        for (method, role) in METHODS {
            let name = method.rsplit('/').next().expect("a method's name");
            let reads = READS.iter().any(|verb| name.starts_with(verb));
            assert!(reads || *role > Viewer, "{method} is open to viewers");
        }
    }
}
