//! Sections that more than one service has.

mod http;
mod kafka;
mod log;
mod mysql;
mod redis;
mod tls;

pub use http::HttpConfig;
pub use kafka::{KafkaConfig, Properties};
pub use log::LogConfig;
pub use mysql::{MysqlConfig, MysqlTls};
pub use redis::RedisConfig;
pub use tls::TlsConfig;

use std::time::Duration;

use super::Faults;

/// Adds a fault unless a duration lies within bounds.
fn check_duration(faults: &mut Faults, key: &str, value: Duration, least: Duration, most: Duration) {
    if value < least || value > most {
        faults.add(
            key,
            format!("{value:?} is out of range"),
            format!("from {least:?} to {most:?}"),
        );
    }
}

/// Adds a fault unless a number lies within bounds.
fn check_number(faults: &mut Faults, key: &str, value: u32, least: u32, most: u32) {
    if value < least || value > most {
        faults.add(
            key,
            format!("{value} is out of range"),
            format!("from {least} to {most}"),
        );
    }
}
