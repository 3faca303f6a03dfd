//! Free ports on the loopback interface.
//!
//! They are taken from below the kernel's range for outgoing connections. A port inside that range can be handed to
//! any client as its own end while our server is down, most likely to the very client that keeps trying to reconnect
//! (it then connects to itself), and the server could not come back on it.

use std::{fs, net::TcpListener, ops::Range};

use anyhow::{Result, bail};
use rand::Rng as _;

/// Tries at random ports; each fails only where the port is in use.
const ATTEMPTS: usize = 1_000;
/// Below it live well-known servers with their default ports (Redis 6379, Kafka 9092, …).
const LOWEST: u16 = 12_000;

/// Finds `N` different ports that nobody listens on now.
///
/// Another process may take one before it is used: rare, and the server that wants it then fails with a clear log.
///
/// # Errors
/// No free port was found.
pub fn free<const N: usize>() -> Result<[u16; N]> {
    let range = usable();
    // The listeners are kept until all ports are found, so that no port is found twice.
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = one_free(&range)?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Says whether nobody listens on `port` now.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn one_free(range: &Range<u16>) -> Result<TcpListener> {
    if range.len() < 1_000 {
        return Ok(TcpListener::bind(("127.0.0.1", 0))?);
    }
    for _ in 0..ATTEMPTS {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", rand::rng().random_range(range.clone()))) {
            return Ok(listener);
        }
    }
    bail!(
        "no free port between {} and {} after {ATTEMPTS} tries",
        range.start,
        range.end
    )
}

fn usable() -> Range<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    LOWEST
        ..text
            .split_whitespace()
            .next()
            .and_then(|first| first.parse().ok())
            .unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_are_free() {
        let ports = free::<8>().unwrap();
        let mut unique = ports.to_vec();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), 8);
        assert!(ports.iter().all(|port| is_free(*port)));
    }

    #[test]
    fn a_port_that_is_listened_on_is_not_free() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
