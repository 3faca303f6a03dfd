//! Logs, metrics, and how errors are printed in both.
//!
//! Levels mean: `error` a person has to act or something ended that should not; `warn` it goes on by itself but worse
//! than it should; `info` what changes seldom (start, assignment, a new whitelist version, stop); `debug` once a
//! batch or a tick; `trace` once a record, never on in production. No payloads and no secrets at any level.

mod chain;
mod logs;
mod metrics_text;
pub mod names;

pub use chain::chain;
pub(crate) use logs::parse_filter;
pub use logs::{Error, LogFormat, init};
pub use metrics_text::Metrics;
