//! What lanes ask of this worker, answered by [`Types`] and the lookup exchange.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reprise_shared::catalog::{LookupIndex, TypeIndex};

use crate::lanes::{StopReason, TypeControl};
use crate::lookup_changes::Reporter;
use crate::types::Types;

/// Connects lanes with the rest of an ingest worker.
#[derive(Debug)]
pub struct Control {
    /// The state of all types.
    pub types: Types,
    /// Where committed lookup keys go.
    pub lookup_changes: Reporter,
}

impl TypeControl for Control {
    fn is_stopped(&self, data_type: TypeIndex) -> bool {
        self.types.is_stopped(data_type)
    }

    fn stop<'a>(&'a self, data_type: TypeIndex, reason: StopReason, detail: String) -> BoxFuture<'a, ()> {
        async move { self.types.stop(data_type, reason.as_str(), &detail).await }.boxed()
    }

    fn lookup_written(&self, lookup: LookupIndex, keys: Vec<String>) {
        self.lookup_changes.committed(lookup, keys);
    }

    fn most_rows(&self) -> usize {
        usize::MAX
    }

    fn rest_after(&self, _took: Duration) -> Duration {
        Duration::ZERO
    }
}
