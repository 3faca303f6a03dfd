//! The worker: takes records from Kafka through the whitelist, decode and lookup into MySQL, and remembers what it did.
//!
//! Reading order follows a record: [`source`] fills a [`chunk`], [`decode_stage`] turns it into [`piece`]s, [`lanes`]
//! queue them per key, [`sink`] writes them, [`progress`] moves over complete chunks, [`ingest`] puts it all together.

pub mod budget;
pub mod chunk;
pub mod headers;
pub mod lanes;
pub mod outcome;
pub mod piece;
pub mod sink;
