//! The HTTP server for health and metrics.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::config::{Faults, Validate};

/// Where `/healthz`, `/readyz` and `/metrics` are served, without encryption: they show no payloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpConfig {
    /// The address and port; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
        }
    }
}

impl Validate for HttpConfig {
    fn validate(&self, _: &mut Faults) {}
}
