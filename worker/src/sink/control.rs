//! What the sink asks of the process around it: whether a type is stopped, to stop one, and to tell that a lookup's
//! table changed.

use std::time::Duration;

use futures::future::BoxFuture;
use reprise_shared::catalog::{LookupIndex, TypeIndex};

/// Why a type is stopped by its sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// Table and catalog disagree.
    Schema,
    /// Most of what arrives is refused.
    Breaker,
}

impl StopReason {
    /// Returns the name as it is stored and counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schema => "SCHEMA",
            Self::Breaker => "BREAKER",
        }
    }
}

/// Given to the lanes by the assembly. All methods are called from lanes and must not block.
pub trait TypeControl: Send + Sync + 'static {
    /// Tells whether a type is stopped. Called once a batch.
    fn is_stopped(&self, data_type: TypeIndex) -> bool;

    /// Stops a type. Returns when that is durable, however long it takes; retries inside. Only then are queued rows
    /// dropped. Called again, also by other lanes at once, it changes nothing more. Dropped at a hard shutdown.
    fn stop<'a>(&'a self, data_type: TypeIndex, reason: StopReason, detail: String) -> BoxFuture<'a, ()>;

    /// Tells that rows of a lookup's own table were committed, with the values of its key column.
    fn lookup_written(&self, lookup: LookupIndex, keys: Vec<String>);

    /// Returns how many rows one transaction may have at most, beside the bound of their type; at least 1. Called once a batch.
    fn most_rows(&self) -> usize;

    /// Returns how long a lane leaves the database alone after a batch that took so long.
    fn rest_after(&self, took: Duration) -> Duration;
}
