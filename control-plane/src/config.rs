//! The control plane's configuration.

use reprise_shared::config::{Faults, LogConfig, MysqlConfig, Validate};
use serde::{Deserialize, Serialize};

/// A whole configuration of the control plane.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// MySQL.
    pub mysql: MysqlConfig,
    /// Logs.
    pub log: LogConfig,
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        faults.section("mysql", &self.mysql);
        faults.section("log", &self.log);
    }
}
