//! Refuses calls from networks that are not on the list.
//!
//! What counts is the address of the connection's other end: `X-Forwarded-For` and its kin can be written by anybody.

use std::net::IpAddr;

use http::request::Parts;

use super::gate;
use crate::config::Network;
use crate::grpc::error::{Error, ErrorReason};
use crate::serve::Peer;

/// Knows the networks.
#[derive(Clone, Debug)]
pub struct Gate(Vec<Network>);

impl Gate {
    /// Allows these networks; none: all.
    pub fn new(networks: &[Network]) -> Self {
        Self(networks.to_vec())
    }

    fn allows(&self, address: IpAddr) -> bool {
        // An IPv4 caller of an IPv6 socket has an address of both kinds.
        let address = address.to_canonical();
        self.0.is_empty() || self.0.iter().any(|network| network.contains(&address))
    }
}

impl gate::Gate for Gate {
    async fn admit(&self, call: &mut Parts) -> Result<(), Error> {
        let peer = call.extensions.get::<Peer>().map(|peer| peer.address.ip());
        if peer.is_some_and(|address| self.allows(address)) {
            return Ok(());
        }
        let message = "calls from this address are not allowed; it has to be in one of the networks of auth.networks";
        Err(Error::new(ErrorReason::AddressDenied, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_count_as_what_they_are() {
        let gate = Gate::new(&["10.0.0.0/8".parse().expect("a network")]);
        for (address, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("11.0.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(gate.allows(address.parse().expect("an address")), allowed, "{address}");
        }
        assert!(Gate::new(&[]).allows("::1".parse().expect("an address")));
    }
}
