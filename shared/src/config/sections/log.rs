//! Logs.

use serde::{Deserialize, Serialize};

use crate::config::{Faults, Validate};
use crate::telemetry::{LogFormat, chain, parse_filter};

/// How logs are written, always to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `pretty` or `json`.
    pub format: LogFormat,
    /// What is written, as in `info,reprise_worker=debug`.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            filter: "info".to_owned(),
        }
    }
}

impl Validate for LogConfig {
    fn validate(&self, faults: &mut Faults) {
        if let Err(error) = parse_filter(&self.filter) {
            faults.add(
                "filter",
                chain(&error).to_string(),
                "for example info,reprise_worker=debug",
            );
        }
    }
}
