//! What reprise's services have in common: one concept per module, pure logic apart from I/O.
//!
//! Reading order: the words ([`position`], [`row`], [`fault`], [`tally`]), what is declared ([`catalog`]), the steps
//! of the pipeline ([`matching`], [`filter`], [`decode`], [`enrich`]), what is remembered ([`ledger`], [`dead_letters`]), who may
//! pass ([`whitelist`]), and what processes stand on.

pub mod position;
pub mod row;
pub mod fault;
pub mod tally;

pub mod catalog;
pub mod matching;
pub mod filter;
pub mod decode;
pub mod enrich;

pub mod whitelist;
pub mod ledger;
pub mod heartbeat;
pub mod dead_letters;
pub mod ingest_state;
pub mod leases;
pub mod jobs;
pub mod isolated;
pub mod lookup_changes;

pub mod mysql;
pub mod redis;
pub mod kafka;

pub mod backoff;
pub mod clock;
pub mod config;
pub mod health;
pub mod signals;
pub mod supervise;
pub mod telemetry;
