//! The connection to Redis.

use std::time::Duration;

use redis::{ClientTlsConfig, IntoConnectionInfo, TlsCertificates};
use serde::{Deserialize, Serialize};

use super::{TlsConfig, TlsFileError};
use crate::config::{Faults, Secret, Validate};
use crate::redis::{InvalidKeyPrefix, KeyPrefix, Settings};

/// How Redis is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RedisConfig {
    /// `redis://user:password@host:6379/0`, or `rediss://` with TLS; required. User and password are those of an ACL;
    /// what is special in a URL is written by its number (`%40` for `@`).
    pub url: Secret,
    /// What all our keys begin with, followed by a colon.
    pub key_prefix: String,
    /// At most this many connections.
    pub pool_size: u32,
    /// The longest wait for a connection.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The longest wait for an answer.
    #[serde(with = "humantime_serde")]
    pub response_timeout: Duration,
    /// Certificates, for `rediss://`.
    pub tls: TlsConfig,
}

/// Settings of Redis that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisSettingsError {
    /// The key prefix.
    #[error("key_prefix")]
    KeyPrefix(#[from] InvalidKeyPrefix),
    /// A certificate or key.
    #[error("certificates")]
    Tls(#[from] TlsFileError),
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            key_prefix: "databus".to_owned(),
            pool_size: 8,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(2),
            tls: TlsConfig::default(),
        }
    }
}

impl RedisConfig {
    /// Returns what [`Redis`](crate::redis::Redis) needs; reads the certificates.
    ///
    /// # Errors
    /// When the key prefix or a certificate is not usable, which [`Validate`] finds too.
    pub fn settings(&self) -> Result<Settings, RedisSettingsError> {
        let tls = (self.tls != TlsConfig::default())
            .then(|| self.tls.read())
            .transpose()?;
        Ok(Settings {
            certificates: tls.map(|files| TlsCertificates {
                client_tls: files.own.map(|(client_cert, client_key)| ClientTlsConfig {
                    client_cert,
                    client_key,
                }),
                root_cert: files.ca,
            }),
            prefix: KeyPrefix::new(&self.key_prefix)?,
            connect_timeout: self.connect_timeout,
            response_timeout: self.response_timeout,
            pool_size: usize::try_from(self.pool_size).unwrap_or(usize::MAX),
            ..Settings::new(self.url.expose())
        })
    }
}

impl Validate for RedisConfig {
    fn validate(&self, faults: &mut Faults) {
        let url = self.url.expose();
        // The parser's own words are left out: they may repeat the password.
        let problem = if url.is_empty() {
            Some("is not set")
        } else {
            url.into_connection_info().err().map(|_| "is not a URL of Redis")
        };
        if let Some(problem) = problem {
            faults.add(
                "url",
                problem,
                "redis://user:password@host:6379/0, or rediss:// with TLS",
            );
        }
        if KeyPrefix::new(&self.key_prefix).is_err() {
            faults.add(
                "key_prefix",
                "is not a usable name",
                "1 to 64 ASCII letters, digits, or _ - .",
            );
        }
        let (least, most) = (Duration::from_millis(50), Duration::from_secs(60));
        faults.check_range("connect_timeout", self.connect_timeout, least, most);
        faults.check_range("response_timeout", self.response_timeout, least, most);
        faults.check_range("pool_size", self.pool_size, 1, 1_000);
        if self.tls != TlsConfig::default() && !url.starts_with("rediss://") {
            faults.add(
                "tls",
                "has no effect without TLS",
                "a url that begins with rediss://, or no tls",
            );
        }
        faults.section("tls", &self.tls);
    }
}
