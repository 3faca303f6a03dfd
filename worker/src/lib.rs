//! The worker: takes records from Kafka through the whitelist, decode and lookup into MySQL, and remembers what it did.
//!
//! Reading order follows a record: [`source`] fills a [`chunk`], [`decode_stage`] turns it into [`piece`]s, [`lanes`]
//! queue them per key, [`sink`] writes them, [`progress`] moves over complete chunks, [`ingest`] puts it all together for
//! live traffic, and [`replay`] for the tasks of jobs.

pub mod source;
pub mod chunk;
pub mod decode_stage;
pub mod piece;
pub mod lanes;
pub mod sink;
pub mod outcome;
pub mod progress;
pub mod ingest;
pub mod replay;
pub mod run;

pub mod budget;
pub mod config;
pub mod control;
pub mod judge;
pub mod lookup_changes;
pub mod misses;
pub mod types;

mod beat;
mod metrics;
mod ready;
mod thread;
mod upkeep;
