//! The offset ledger in Redis: which offsets of which data type were processed when.
//!
//! Two lines per partition, ZSETs with the start offset as score, on one Cluster node by their hash tag:
//!
//! | key | members |
//! |---|---|
//! | `databus:offsets:<data type>:{<topic>:<partition>}` | [`Range`]: an index of where that type's records are, one per run and segment |
//! | `databus:coverage:{<topic>:<partition>}` | [`Coverage`]: every delivered record in the interval has a durable outcome |
//!
//! The worker keeps a [`PartitionLedger`] per assigned partition (pure), asks it every second what to send, and a
//! [`Writer`] sends that for all partitions in one round trip. Values are absolute, so sending twice, or a write
//! whose answer was lost, changes nothing, and a Redis that lost its last seconds is healed by the next call.
//! Write order is MySQL, then this ledger, then the Kafka commit (I3): only positions below
//! [`PartitionLedger::durable_end`] may be committed.
//!
//! [`Reader`] answers what was processed, and [`holes`] what was not; [`Marker`] notes intervals that live traffic
//! passed over, and [`Purger`] removes ranges by age.

mod interval;
mod marker;
mod member;
mod purge;
mod read;
mod run;
mod segment;
mod span;
mod write;

pub use interval::{Interval, holes, union};
pub use marker::Marker;
pub use member::{Coverage, CoverageKind, Keys, Millis, Range, RunId, Source};
pub use purge::{PurgeStep, Purged, Purger, Trimmed};
pub use read::{Cursor, Page, Reader};
pub use run::{AddError, Limits, PartitionLedger, Update};
pub use segment::{ChunkTally, Identity, TypeTally};
pub use span::Span;
pub use write::Writer;
