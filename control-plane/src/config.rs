//! The control plane's configuration.

use reprise_shared::config::{Faults, LogConfig, MysqlConfig, Validate};
use reprise_shared::mysql;
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

impl Config {
    /// Returns what the database needs.
    pub fn database(&self) -> mysql::Config {
        mysql::Config {
            url: self.mysql.url_with_tls(),
            max_connections: self.mysql.max_connections,
            acquire_timeout: self.mysql.acquire_timeout,
            ..mysql::Config::default()
        }
    }
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        faults.section("mysql", &self.mysql);
        faults.section("log", &self.log);
    }
}
