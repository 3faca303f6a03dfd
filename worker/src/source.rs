//! Where records come from: the live source, a member of a consumer group.
//!
//! One OS thread polls ([`reader`]). It does no I/O of its own: what must be known before a partition may be read is
//! found out by [`admission`], and commits go through a thread of their own. Until a partition is admitted, and
//! whenever there is no room, it is paused ([`gate`]).

pub mod admission;
pub mod builder;
pub(crate) mod client_log;
pub mod gate;
pub mod intake;
pub mod lag;
pub mod missing_topics;
pub mod partition;
pub mod reader;
pub mod rebalance;
