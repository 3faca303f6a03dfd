//! The gRPC server and its limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;
use reprise_shared::config::{Faults, Validate};
use serde::{Deserialize, Serialize};

use super::duration;

/// Where calls are taken, and how much of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct GrpcConfig {
    /// The address and port; port 0 takes a free one. Anything but a loopback address needs `auth` and `tls`.
    pub listen: SocketAddr,
    /// Listen beyond this machine without auth or TLS all the same.
    pub insecure: bool,
    /// The largest request message.
    pub max_message: ByteSize,
    /// The largest request message of methods that take whole lists.
    pub max_bulk_message: ByteSize,
    /// The largest sum of a request's headers.
    pub max_headers: ByteSize,
    /// Connections at one time; further ones are closed at once.
    pub max_connections: u32,
    /// Calls at one time on one connection; clients keep further ones waiting.
    pub max_streams: u32,
    /// Calls in work at one time over all connections; further ones are refused with UNAVAILABLE.
    pub max_calls: u32,
    /// Calls in work at one time whose message is larger than `max_message`; further ones wait for their turn. Each
    /// takes up to about fifty times its message in memory.
    pub max_bulk_calls: u32,
    /// The time a call gets when it does not say.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// The time a call may ask for.
    #[serde(with = "humantime_serde")]
    pub max_deadline: Duration,
    /// A TLS handshake may take this long.
    #[serde(with = "humantime_serde")]
    pub handshake: Duration,
    /// A silent connection is asked for a sign of life this often.
    #[serde(with = "humantime_serde")]
    pub keepalive_every: Duration,
    /// A connection without a sign of life for this long after it was asked is closed.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    /// A connection of this age takes no further calls: its client opens another one.
    #[serde(with = "humantime_serde")]
    pub max_connection_age: Duration,
    /// Calls in work on such a connection have this long to end.
    #[serde(with = "humantime_serde")]
    pub connection_grace: Duration,
    /// At shutdown, calls are still taken for this long after health says NOT_SERVING, so that callers can turn away.
    #[serde(with = "humantime_serde")]
    pub shutdown_notice: Duration,
    /// How long an orderly shutdown may take in all; then connections are cut.
    #[serde(with = "humantime_serde")]
    pub shutdown: Duration,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            listen: (Ipv4Addr::LOCALHOST, 50_051).into(),
            insecure: false,
            max_message: ByteSize::kib(256),
            max_bulk_message: ByteSize::mib(4),
            max_headers: ByteSize::kib(96),
            max_connections: 1_000,
            max_streams: 64,
            max_calls: 512,
            max_bulk_calls: 2,
            deadline: seconds(30),
            max_deadline: seconds(300),
            handshake: seconds(5),
            keepalive_every: seconds(30),
            keepalive_timeout: seconds(10),
            max_connection_age: seconds(1_800),
            connection_grace: seconds(30),
            shutdown_notice: seconds(1),
            shutdown: seconds(25),
        }
    }
}

impl Validate for GrpcConfig {
    fn validate(&self, faults: &mut Faults) {
        for (key, value, least, most) in [
            ("max_message", self.max_message.as_u64(), 1 << 10, 16 << 20),
            ("max_bulk_message", self.max_bulk_message.as_u64(), 1 << 10, 64 << 20),
            ("max_headers", self.max_headers.as_u64(), 8 << 10, 1 << 20),
            ("max_connections", self.max_connections.into(), 1, 100_000),
            ("max_streams", self.max_streams.into(), 1, 10_000),
            ("max_calls", self.max_calls.into(), 1, 100_000),
            ("max_bulk_calls", self.max_bulk_calls.into(), 1, 1_000),
        ] {
            faults.check_range(key, value, least, most);
        }
        for (key, value, least, most) in [
            ("deadline", self.deadline, 100, 3_600_000),
            ("max_deadline", self.max_deadline, 100, 3_600_000),
            ("handshake", self.handshake, 100, 60_000),
            ("keepalive_every", self.keepalive_every, 1_000, 3_600_000),
            ("keepalive_timeout", self.keepalive_timeout, 100, 60_000),
            ("max_connection_age", self.max_connection_age, 1_000, 86_400_000),
            ("connection_grace", self.connection_grace, 0, 3_600_000),
            ("shutdown_notice", self.shutdown_notice, 0, 60_000),
            ("shutdown", self.shutdown, 1_000, 600_000),
        ] {
            duration(faults, key, value, least, most);
        }
        if self.max_deadline < self.deadline {
            faults.add("max_deadline", "is too short", "at least grpc.deadline");
        }
        if self.shutdown <= self.shutdown_notice {
            faults.add("shutdown", "is too short", "more than grpc.shutdown_notice");
        }
    }
}
