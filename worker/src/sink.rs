//! Writes rows and dead letters to MySQL: one transaction a batch, on a connection that belongs to one lane.
//!
//! [`batch`] decides which row of a key is written (pure), [`statement`] builds and fills the guarded upsert (pure),
//! [`writer`] puts a batch through, whatever the server does meanwhile.

pub mod batch;
pub mod breaker;
pub mod clean;
pub mod shared;
pub mod statement;
mod stale;
mod stored;
pub mod task;
pub mod writer;

mod attempt;
mod compare;
mod connection;
mod exact;
pub mod control;
mod metrics;
mod mismatch;
mod tries;
pub(crate) mod work;

pub use connection::LaneConnection;
pub use work::Work;
