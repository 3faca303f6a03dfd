//! Progress: the completed prefix of each partition goes into the ledger and then to Kafka, never the other way.

pub(crate) mod account;
pub mod queue;
pub mod tick;
mod topic_check;
