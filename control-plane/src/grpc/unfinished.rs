//! Services whose calls this version does not have yet. Each call says so.

use reprise_proto::v1::*;
use tonic::{Request, Response, Status, async_trait};

use super::error::Error;

/// Answers every call of a service with UNIMPLEMENTED.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unfinished;

macro_rules! unfinished {
    ($service:path, $name:literal: $($method:ident $rpc:literal ($request:ty) -> $response:ty;)*) => {
        #[async_trait]
        impl $service for Unfinished {
            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Error::not_implemented(concat!($name, "/", $rpc)).into())
            })*
        }
    };
}

unfinished! { offset_range_service_server::OffsetRangeService, "OffsetRangeService":
    list_offset_ranges "ListOffsetRanges" (ListOffsetRangesRequest) -> ListOffsetRangesResponse;
    resolve_offsets "ResolveOffsets" (ResolveOffsetsRequest) -> ResolveOffsetsResponse;
    audit_coverage "AuditCoverage" (AuditCoverageRequest) -> AuditCoverageResponse;
    purge_offset_ranges "PurgeOffsetRanges" (PurgeOffsetRangesRequest) -> PurgeOffsetRangesResponse;
    explain_record "ExplainRecord" (ExplainRecordRequest) -> ExplainRecordResponse;
}
