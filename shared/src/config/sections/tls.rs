//! Certificates for a connection.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Faults, Validate};

/// Certificates, as PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsConfig {
    /// The authorities that the server's certificate is checked against; without it, the system's.
    pub ca_path: Option<PathBuf>,
    /// Our own certificate, for servers that ask for one.
    pub certificate_path: Option<PathBuf>,
    /// Our certificate's key.
    pub key_path: Option<PathBuf>,
}

impl Validate for TlsConfig {
    fn validate(&self, faults: &mut Faults) {
        if self.certificate_path.is_some() != self.key_path.is_some() {
            let absent = if self.key_path.is_none() {
                "key_path"
            } else {
                "certificate_path"
            };
            faults.add(
                absent,
                "is not set, but its counterpart is",
                "certificate_path and key_path, or neither",
            );
        }
    }
}
