//! Who decides over records on their way through the pipeline: live traffic asks the state of its types and the
//! whitelist, a task asks its own slice. Everything else of the way is the same code.

use reprise_shared::catalog::TypeIndex;
use reprise_shared::filter::{self, Verdict};
use reprise_shared::position::Offset;
use reprise_shared::whitelist::Snapshot;

use crate::types::Types;

/// What happens to the records of one type, before anything else of them is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// They go on.
    Take,
    /// They complete as processed: only where they are is asked for.
    Count,
    /// They complete as deferred: their type is stopped.
    Defer,
    /// They are passed over: they are not what is asked for.
    Skip,
}

/// Decides over records. Asked for every record, so it must be quick and never block. Cheap to clone.
pub trait Judge: Clone + Send + 'static {
    /// Decides over a type; `None`: records that match none.
    fn admission(&self, data_type: Option<TypeIndex>) -> Admission;

    /// Tells whether records of this type may be judged by their Kafka key alone.
    fn trusts_key(&self, data_type: TypeIndex) -> bool;

    /// Takes note that key and id of a record disagree.
    fn key_disagrees(&self, data_type: TypeIndex);

    /// Tells whether some of the records that their key keeps out are decoded, to check that key and id agree.
    fn audits_keys(&self) -> bool;

    /// Judges an id by the snapshot of its chunk.
    fn judge(&self, snapshot: &Snapshot, data_type: TypeIndex, id: &[u8]) -> Verdict;

    /// Judges a record's time, in Kafka's milliseconds; −1 when it has none.
    fn judge_time(&self, timestamp: i64) -> Verdict;

    /// Takes note of a record that passes and yields neither rows nor letters, before its chunk completes.
    fn yields_nothing(&self, offset: Offset);
}

impl Judge for Types {
    #[inline]
    fn admission(&self, data_type: Option<TypeIndex>) -> Admission {
        match data_type {
            Some(data_type) if self.is_stopped(data_type) => Admission::Defer,
            _ => Admission::Take,
        }
    }

    #[inline]
    fn trusts_key(&self, data_type: TypeIndex) -> bool {
        Types::trusts_key(self, data_type)
    }

    fn key_disagrees(&self, data_type: TypeIndex) {
        Types::key_disagrees(self, data_type);
    }

    #[inline]
    fn audits_keys(&self) -> bool {
        true
    }

    #[inline]
    fn judge(&self, snapshot: &Snapshot, data_type: TypeIndex, id: &[u8]) -> Verdict {
        filter::judge(snapshot, data_type, id)
    }

    #[inline]
    fn judge_time(&self, _timestamp: i64) -> Verdict {
        Verdict::Pass
    }

    #[inline]
    fn yields_nothing(&self, _offset: Offset) {}
}
