//! The gRPC services: one file each, with its conversions, and what they have in common.

pub mod audit;
pub mod changes;
pub mod error;
pub mod explain;
pub mod fields;
pub mod fleet;
pub mod job;
mod names;
pub mod offset_range;
pub mod paging;
pub mod whitelist;

use axum::routing::any_service;
use reprise_proto::v1::audit_service_server::AuditServiceServer;
use reprise_proto::v1::fleet_service_server::FleetServiceServer;
use reprise_proto::v1::job_service_server::JobServiceServer;
use reprise_proto::v1::offset_range_service_server::OffsetRangeServiceServer;
use reprise_proto::v1::whitelist_service_server::WhitelistServiceServer;
use reprise_shared::telemetry::chain;
use sqlx::mysql::MySqlPool;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use self::error::{Error, ErrorReason};
use crate::config::GrpcConfig;

/// The services by their full names, as health and reflection tell them.
pub const SERVICES: [&str; 5] = [
    "reprise.control.v1.AuditService",
    "reprise.control.v1.FleetService",
    "reprise.control.v1.JobService",
    "reprise.control.v1.OffsetRangeService",
    "reprise.control.v1.WhitelistService",
];

/// Methods that take whole lists, and so larger messages.
pub const BULK_METHODS: [&str; 4] = [
    "/reprise.control.v1.JobService/PlanJob",
    "/reprise.control.v1.WhitelistService/AddWhitelistEntries",
    "/reprise.control.v1.WhitelistService/RemoveWhitelistEntries",
    "/reprise.control.v1.WhitelistService/ReplaceWhitelist",
];

/// Why services could not be put together.
#[derive(Debug, thiserror::Error)]
#[error("the descriptors that are built in cannot be read")]
pub struct DescriptorsError(#[from] tonic_reflection::server::Error);

/// What services answer from.
pub struct Parts {
    /// Workers, data types and partitions.
    pub fleet: crate::fleet::Fleet,
    /// Which offsets were processed, and when.
    pub offsets: crate::offsets::Offsets,
    /// Stops and resumes.
    pub ingest: crate::ingest::Ingest,
    /// The whitelist.
    pub whitelist: crate::whitelist::Store,
    /// Where the audit log is.
    pub pool: MySqlPool,
    /// Runs changes to their end.
    pub changes: changes::Changes,
    /// Topics, ends of logs, committed positions.
    pub kafka: crate::kafka::Kafka,
    /// What became of records.
    pub explainer: crate::explain::Explainer,
    /// What is processed again.
    pub jobs: crate::jobs::Jobs,
    /// Who follows jobs.
    pub watches: crate::jobs::watch::Watches,
}

/// Turns the failure of a store into an answer, after telling it in the log.
fn store_failed(error: crate::fleet::Error) -> Error {
    let store = match error {
        crate::fleet::Error::Redis(_) => "redis",
        crate::fleet::Error::Mysql(_) => "mysql",
    };
    away(store, &error)
}

/// Makes the failure of a call that a store did not answer, after telling why in the log.
fn away(store: &'static str, error: &(dyn std::error::Error + 'static)) -> Error {
    away_advising(store, error, "try again")
}

/// As [`away`], with what is known of the call and what the caller should do.
fn away_advising(store: &'static str, error: &(dyn std::error::Error + 'static), advice: &str) -> Error {
    tracing::warn!(error = %chain(error), store, "a store failed");
    let message = format!("{store} does not answer as it should; {advice}");
    Error::new(ErrorReason::StoreAway, message).with("store", store)
}

/// Returns who calls, as the guard found out.
fn principal<T>(request: &tonic::Request<T>) -> String {
    let caller = request.extensions().get::<crate::guard::Caller>();
    caller.map(|caller| caller.principal.to_string()).unwrap_or_default()
}

/// Puts all services together: ours, health, and reflection in both of its versions.
///
/// # Errors
/// When the built-in descriptors cannot be read, which is a mistake of the build.
pub fn routes(parts: Parts, limits: &GrpcConfig, health: &HealthReporter) -> Result<Routes, DescriptorsError> {
    let small = usize::try_from(limits.max_message.as_u64()).unwrap_or(usize::MAX);
    let bulk = usize::try_from(limits.max_bulk_message.as_u64()).unwrap_or(usize::MAX);
    let fleet = fleet::Service::new(parts.fleet, parts.ingest, parts.changes.clone());
    let whitelist = whitelist::Service::new(parts.whitelist, parts.kafka, parts.changes.clone());
    let whitelist = |limit| WhitelistServiceServer::new(whitelist.clone()).max_decoding_message_size(limit);
    let job = job::Service::new(parts.jobs, parts.watches, parts.changes.clone());
    let job = |limit| JobServiceServer::new(job.clone()).max_decoding_message_size(limit);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(reprise_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::new(whitelist(small))
        .add_service(
            OffsetRangeServiceServer::new(offset_range::Service::new(
                parts.offsets,
                parts.changes,
                parts.explainer,
            ))
            .max_decoding_message_size(small),
        )
        .add_service(job(small))
        .add_service(FleetServiceServer::new(fleet).max_decoding_message_size(small))
        .add_service(AuditServiceServer::new(audit::Service(parts.pool)).max_decoding_message_size(small))
        .add_service(health_service(health))
        .add_service(reflection().build_v1()?.max_decoding_message_size(small))
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(small));
    // A route of its own wins over its service's.
    for method in BULK_METHODS {
        let router = std::mem::take(routes.axum_router_mut());
        *routes.axum_router_mut() = if method.contains("JobService") {
            router.route(method, any_service(job(bulk)))
        } else {
            router.route(method, any_service(whitelist(bulk)))
        };
    }
    Ok(routes.prepare())
}

/// Makes the health service of a reporter.
pub fn health_service(health: &HealthReporter) -> HealthServer<HealthService> {
    HealthServer::new(HealthService::from_health_reporter(health.clone()))
}
