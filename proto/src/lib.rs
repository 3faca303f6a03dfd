//! The interface of reprise's control plane, between its gRPC services and their callers.
//!
//! This version defines no services and no messages: what stands here is the name of the package that they will be
//! in, so that the name is decided in one place.

/// The protobuf package of the control plane's services.
pub const PACKAGE: &str = "reprise.control.v1";
