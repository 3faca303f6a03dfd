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
pub use redis::{RedisConfig, RedisSettingsError};
pub use tls::{TlsConfig, TlsFileError, TlsFiles};
