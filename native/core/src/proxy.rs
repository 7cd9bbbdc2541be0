//! Listeners behind a proxy: from whom a PROXY header is taken.

use std::net::IpAddr;
use std::time::Duration;

/// How a listener takes the headers of the PROXY protocol that its connections begin with. One without is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Networks of the proxies; a connection from elsewhere is refused. None: whoever connects is believed. A unix socket is
    /// trusted either way, for its file's permissions say who may connect.
    pub trusted: Option<Vec<Network>>,
    /// Until the header is complete, not restarted by a byte. Default 5 s: a lost segment is sent again within 3 s
    /// (`proxy-protocol.txt`, section 2).
    pub header_timeout: Duration,
}

impl Default for ProxyProtocol {
    fn default() -> Self {
        Self { trusted: None, header_timeout: Duration::from_secs(5) }
    }
}

impl ProxyProtocol {
    /// Whether a connection from there may say whose it is.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(peer)))
    }
}

/// The addresses that begin as this one does. IPv4 addresses are the same in IPv6's form (`::ffff:0:0/96`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    length: u32,
}

impl Network {
    /// Of the first `length` bits. None when an address has fewer.
    pub fn new(address: IpAddr, length: u32) -> Option<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        if length > most {
            return None;
        }
        match (address.to_canonical(), length.checked_sub(96)) {
            (short @ IpAddr::V4(_), Some(length)) if address.is_ipv6() => {
                Some(Self { address: short, length })
            }
            _ => Some(Self { address, length }),
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let differing = match (self.address, ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => (own.to_bits() ^ ip.to_bits()).leading_zeros(),
            (IpAddr::V6(own), IpAddr::V6(ip)) => (own.to_bits() ^ ip.to_bits()).leading_zeros(),
            // A network that IPv4's form lies in.
            (IpAddr::V6(own), IpAddr::V4(ip)) => {
                (own.to_bits() ^ ip.to_ipv6_mapped().to_bits()).leading_zeros()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => return false,
        };
        differing >= self.length
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn is_in(ip: &str, network: &str, length: u32) -> bool {
        Network::new(network.parse().unwrap(), length).unwrap().contains(ip.parse().unwrap())
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        assert!(is_in("10.1.2.3", "10.1.2.3", 32));
        assert!(!is_in("10.1.2.4", "10.1.2.3", 32));
        assert!(is_in("10.255.0.1", "10.0.0.0", 8));
        assert!(!is_in("11.0.0.1", "10.0.0.0", 8));
        assert!(is_in("10.1.2.3", "10.0.0.9", 8), "bits behind the length do not count");
        assert!(is_in("192.0.2.1", "0.0.0.0", 0));
        assert!(is_in("2001:db8::1", "2001:db8::", 32));
        assert!(!is_in("2001:db9::1", "2001:db8::", 32));
        assert!(is_in("::1", "::1", 128));
    }

    #[test]
    fn ipv4_is_the_same_in_both_forms() {
        assert!(is_in("::ffff:10.1.2.3", "10.0.0.0", 8));
        assert!(is_in("10.1.2.3", "::ffff:10.0.0.0", 104));
        assert!(!is_in("11.1.2.3", "::ffff:10.0.0.0", 104));
        assert!(is_in("10.1.2.3", "::", 0));
        assert!(!is_in("2001:db8::1", "0.0.0.0", 0));
    }

    #[test]
    fn a_length_beyond_the_address_is_none() {
        assert_eq!(Network::new("10.0.0.0".parse().unwrap(), 33), None);
        assert_eq!(Network::new("::".parse().unwrap(), 129), None);
    }
}
