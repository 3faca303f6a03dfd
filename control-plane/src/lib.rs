//! reprise's control plane: what operators and services ask and change, over gRPC.
//!
//! Reading order: [`config`], [`mod@run`] (the whole life of the server), [`serve`] (connections), [`guard`] (what a call
//! passes before its service: limits, who it is, what it may), [`grpc`] (the services), and the commands: [`migrate`]
//! brings the database's schema to this version, [`health`] asks whether a control plane serves.

pub mod arguments;
pub mod config;
pub mod run;
pub mod serve;
pub mod guard;
pub mod grpc;
pub mod kafka;
pub mod explain;
pub mod offsets;
pub mod fleet;
pub mod metrics;
pub mod health;
pub mod migrate;
pub mod command;
pub mod audit;
pub mod ingest;
pub mod planner;
pub mod jobs;
pub mod requests;
pub mod whitelist;
mod reload;
mod times;

pub use run::{Error, Listeners, run};
