//! reprise's control plane.
//!
//! In this version it is one command: [`migrate`] brings the database's schema to what this version's workers need.
//! The gRPC services (jobs, whitelist, dead letters, schedules) are not part of it yet.

pub mod config;
pub mod migrate;

pub mod audit;
pub mod whitelist;
