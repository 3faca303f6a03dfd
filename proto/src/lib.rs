//! The interface of reprise's control plane, between its gRPC services and their callers: the code that is generated
//! from `reprise/control/v1/*.proto`, and the descriptors that reflection serves.

/// The package `reprise.control.v1`.
pub mod v1 {
    #![expect(clippy::too_many_lines, reason = "generated")]
    tonic::include_proto!("reprise.control.v1");
}

/// The protobuf package of the control plane's services.
pub const PACKAGE: &str = "reprise.control.v1";

/// An encoded `google.protobuf.FileDescriptorSet` of our files and all that they import, with their comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));

impl v1::ErrorReason {
    /// Returns the name that `google.rpc.ErrorInfo` carries: without the enum's prefix.
    pub fn reason(self) -> &'static str {
        self.as_str_name().trim_start_matches("ERROR_REASON_")
    }
}
