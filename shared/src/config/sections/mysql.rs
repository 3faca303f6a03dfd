//! The connection to MySQL or MariaDB.

use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sqlx::mysql::MySqlConnectOptions;

use super::TlsConfig;
use crate::config::{Faults, Secret, Validate};
use crate::mysql;

/// How MySQL is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct MysqlConfig {
    /// `mysql://user:password@host:3306/database`; required.
    pub url: Secret,
    /// At most this many connections in the pool; lanes have their own beside it.
    pub max_connections: u32,
    /// The longest wait for a connection of the pool, opening one included.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    /// Whether the connection is encrypted, and how far the server's certificate is checked.
    pub tls_mode: MysqlTls,
    /// Certificates; authorities need a `tls_mode` that checks against them.
    pub tls: TlsConfig,
}

/// Whether a connection to MySQL is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MysqlTls {
    /// Never.
    Disabled,
    /// When the server can; its certificate is not checked.
    #[default]
    Preferred,
    /// Always; the server's certificate is not checked.
    Required,
    /// Always, and an authority of ours has signed the server's certificate.
    VerifyCa,
    /// As `verify_ca`, and the certificate is for the host of the URL.
    VerifyIdentity,
}

impl Default for MysqlConfig {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            max_connections: 8,
            acquire_timeout: Duration::from_secs(10),
            tls_mode: MysqlTls::default(),
            tls: TlsConfig::default(),
        }
    }
}

impl MysqlConfig {
    /// Returns what a [`Database`](mysql::Database) needs.
    pub fn database(&self) -> mysql::Config {
        mysql::Config {
            url: self.url_with_tls(),
            max_connections: self.max_connections,
            acquire_timeout: self.acquire_timeout,
            ..mysql::Config::default()
        }
    }

    /// Returns the URL with the TLS settings as its parameters, which is how the driver takes them.
    pub fn url_with_tls(&self) -> SecretString {
        let mut url = self.url.expose().to_owned();
        let mut parameter = |name: &str, value: &str| {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{name}={value}"));
        };
        let mode = match self.tls_mode {
            MysqlTls::Disabled => "DISABLED",
            MysqlTls::Preferred => "PREFERRED",
            MysqlTls::Required => "REQUIRED",
            MysqlTls::VerifyCa => "VERIFY_CA",
            MysqlTls::VerifyIdentity => "VERIFY_IDENTITY",
        };
        parameter("ssl-mode", mode);
        let files = [
            ("ssl-ca", &self.tls.ca_path),
            ("ssl-cert", &self.tls.certificate_path),
            ("ssl-key", &self.tls.key_path),
        ];
        for (name, path) in files {
            if let Some(path) = path {
                parameter(name, &in_url(path));
            }
        }
        url.into()
    }

    fn validate_tls(&self, faults: &mut Faults) {
        let url = self.url.expose();
        // The driver takes the last of two, so those of the URL would be overruled without a word.
        if url
            .split_once('?')
            .is_some_and(|(_, parameters)| parameters.contains("ssl"))
        {
            let right = "mysql.tls_mode and mysql.tls, and a URL without ssl-mode, ssl-ca, ssl-cert and ssl-key";
            faults.add("url", "has parameters of TLS", right);
        }
        let verifies = matches!(self.tls_mode, MysqlTls::VerifyCa | MysqlTls::VerifyIdentity);
        if self.tls.ca_path.is_some() && !verifies {
            let right = "tls_mode: verify_identity or verify_ca";
            faults.add(
                "tls.ca_path",
                "has no effect without a check of the server's certificate",
                right,
            );
        }
        faults.section("tls", &self.tls);
    }
}

impl Validate for MysqlConfig {
    fn validate(&self, faults: &mut Faults) {
        let url = self.url.expose();
        // The parser's own words are left out: they may repeat the password.
        let problem = if url.is_empty() {
            Some("is not set")
        } else if !(url.starts_with("mysql://") || url.starts_with("mariadb://")) {
            Some("is not a URL of MySQL")
        } else {
            match MySqlConnectOptions::from_str(url) {
                Err(_) => Some("is not a URL that can be read"),
                Ok(options) if options.get_database().is_none_or(str::is_empty) => Some("names no database"),
                Ok(_) => None,
            }
        };
        if let Some(problem) = problem {
            faults.add("url", problem, "mysql://user:password@host:3306/database");
        }
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(300));
        faults.check_range("acquire_timeout", self.acquire_timeout, least, most);
        faults.check_range("max_connections", self.max_connections, 1, 1_000);
        self.validate_tls(faults);
    }
}

/// Writes a path as the value of a parameter: all but the plainest bytes by their numbers.
fn in_url(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_path_of_any_name_reaches_the_driver() {
        let path = "/etc/my certs/a&b=c+d%20.pem";
        let config = MysqlConfig {
            url: Secret::new("mysql://u:p@db/reprise"),
            tls_mode: MysqlTls::VerifyCa,
            tls: TlsConfig {
                ca_path: Some(path.into()),
                ..TlsConfig::default()
            },
            ..MysqlConfig::default()
        };
        let options = MySqlConnectOptions::from_str(config.url_with_tls().expose_secret()).expect("a URL");
        assert!(format!("{options:?}").contains(&format!("{path:?}")), "{options:?}");
    }

    #[test]
    fn what_would_be_overruled_or_have_no_effect_is_a_fault() {
        let mut config = MysqlConfig {
            url: Secret::new("mysql://u:p@db/reprise?ssl-mode=VERIFY_IDENTITY"),
            ..MysqlConfig::default()
        };
        config.tls.ca_path = Some("/absent.pem".into());
        let mut faults = Faults::default();
        config.validate(&mut faults);
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["url", "tls.ca_path"], "{faults}");
    }
}
