//! What ingest remembers in MySQL across restarts and workers: accepted topics, where partitions began, what is
//! stopped, and which intervals were deferred.
//!
//! Every function is one statement or repeats safely, so a lost answer is handled by doing it again.

pub mod deferred;
pub mod stops;
pub mod topics;
