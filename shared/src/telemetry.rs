//! Logs, metrics, and how errors are printed in both.

mod chain;
pub mod names;

pub use chain::chain;
