//! Why jobs and tasks fail, in one word each. Workers add their own; these are those that the store or more than one
//! of its users gives.

/// A task was claimed too often without its checkpoint moving.
pub const ATTEMPTS_EXHAUSTED: &str = "ATTEMPTS_EXHAUSTED";
/// Only workers with another catalog were there for too long.
pub const CATALOG_CHANGED: &str = "CATALOG_CHANGED";
/// Positions are missing, and the job does not allow that.
pub const DATA_EXPIRED: &str = "DATA_EXPIRED";
