//! The server's certificates.

use std::path::PathBuf;

use reprise_shared::config::{Faults, Validate};
use serde::{Deserialize, Serialize};

/// Whether callers have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// They may; those without one need a token.
    #[default]
    Optional,
    /// They have to, or the handshake fails.
    Required,
}

/// PEM files; they are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerTlsConfig {
    /// Our certificate, with the chain to its authority. Without it connections are not encrypted.
    pub certificate_path: Option<PathBuf>,
    /// Our certificate's key.
    pub key_path: Option<PathBuf>,
    /// The authorities that sign callers' certificates; without it callers are not asked for one.
    pub client_ca_path: Option<PathBuf>,
    /// Whether callers have to show one.
    pub client_certificates: ClientCertificates,
}

impl ServerTlsConfig {
    /// Returns whether connections are encrypted.
    pub fn is_on(&self) -> bool {
        self.certificate_path.is_some()
    }
}

impl Validate for ServerTlsConfig {
    fn validate(&self, faults: &mut Faults) {
        faults.check_pair(
            ("certificate_path", self.certificate_path.is_some()),
            ("key_path", self.key_path.is_some()),
        );
        if self.client_ca_path.is_some() && !self.is_on() {
            faults.add(
                "client_ca_path",
                "has no effect without TLS",
                "set certificate_path and key_path",
            );
        }
        if self.client_certificates == ClientCertificates::Required && self.client_ca_path.is_none() {
            let right = "the authorities that sign callers' certificates";
            faults.add("client_ca_path", "is not set, but certificates are required", right);
        }
    }
}
