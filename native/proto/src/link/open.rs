//! What an ECM says of a client when it opens a stream.

use super::MAX_NAME;
use crate::proxy::Address;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of the longest description of a client.
pub const MAX_OPEN: usize = 512;

const IPV4: u8 = 4;
const IPV6: u8 = 6;
const UNIX: u8 = 1;
const MAX_UNIX: usize = 108;
/// A fact: the address of the proxy that the client's came from.
const VIA: u8 = 1;

/// A client's connection, as the node's listener would have seen it. A node takes an ECM's word for all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The node's listener that the connection is for, such as `c2s`; 1 to [`MAX_NAME`] bytes.
    pub listener: Box<str>,
    /// The client's address.
    pub client: Address,
    /// The address that the client has connected to.
    pub local: Address,
    /// The proxy, where a PROXY header before the connection's bytes has said who the client is.
    pub via: Option<Address>,
}

impl Open {
    /// Whether it can be said: the listener has a name, and what it consists of is not longer than it may be.
    pub fn is_valid(&self) -> bool {
        let is_short = |address: &Address| !matches!(address, Address::Unix(path) if path.len() > MAX_UNIX);
        (1..=MAX_NAME).contains(&self.listener.len())
            && [Some(&self.client), Some(&self.local), self.via.as_ref()].into_iter().flatten().all(is_short)
    }

    /// Appends it. Never more than [`MAX_OPEN`] bytes if it is valid.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        push_short(self.listener.as_bytes(), out);
        encode_address(&self.client, out);
        encode_address(&self.local, out);
        if let Some(via) = &self.via {
            let at = out.len();
            out.extend_from_slice(&[VIA, 0]);
            encode_address(via, out);
            out[at + 1] = (out.len() - at - 2).min(255) as u8;
        }
    }

    /// Facts of a kind that is not known are passed over: what a later ECM knows of a client must not end its link.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let listener = take_short(rest).filter(|name| (1..=MAX_NAME).contains(&name.len()))?;
        let listener = std::str::from_utf8(listener).ok()?.into();
        let (client, local) = (decode_address(rest)?, decode_address(rest)?);
        let mut open = Self { listener, client, local, via: None };
        while let Some((kind, more)) = rest.split_first() {
            *rest = more;
            let mut fact = take_short(rest)?;
            if *kind == VIA {
                open.via = Some(decode_address(&mut fact)?);
                fact.is_empty().then_some(())?;
            }
        }
        Some(open)
    }
}

fn push_short(bytes: &[u8], out: &mut Vec<u8>) {
    let bytes = &bytes[..bytes.len().min(255)];
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, more) = rest.split_first()?;
    let (bytes, more) = more.split_at_checked(usize::from(*length))?;
    *rest = more;
    Some(bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, more) = rest.split_first_chunk::<N>()?;
    *rest = more;
    Some(*bytes)
}

fn encode_address(address: &Address, out: &mut Vec<u8>) {
    match address {
        Address::Ip(SocketAddr::V4(address)) => {
            out.push(IPV4);
            out.extend_from_slice(&address.ip().octets());
            out.extend_from_slice(&address.port().to_be_bytes());
        }
        Address::Ip(SocketAddr::V6(address)) => {
            out.push(IPV6);
            out.extend_from_slice(&address.ip().octets());
            out.extend_from_slice(&address.port().to_be_bytes());
        }
        Address::Unix(path) => {
            out.push(UNIX);
            push_short(path, out);
        }
    }
}

fn decode_address(rest: &mut &[u8]) -> Option<Address> {
    let [family] = take(rest)?;
    Some(match family {
        IPV4 => {
            let ip = Ipv4Addr::from(take::<4>(rest)?);
            Address::Ip(SocketAddr::from((ip, u16::from_be_bytes(take(rest)?))))
        }
        IPV6 => {
            let ip = Ipv6Addr::from(take::<16>(rest)?);
            Address::Ip(SocketAddr::from((ip, u16::from_be_bytes(take(rest)?))))
        }
        UNIX => Address::Unix(take_short(rest).filter(|path| path.len() <= MAX_UNIX)?.to_vec()),
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Address {
        Address::Ip(text.parse().unwrap())
    }

    fn encoded(open: &Open) -> Vec<u8> {
        let mut out = Vec::new();
        open.encode(&mut out);
        out
    }

    #[test]
    fn a_client_reads_back() {
        let open = Open {
            listener: "c2s".into(),
            client: ip("192.0.2.7:4711"),
            local: ip("[2001:db8::1]:5222"),
            via: Some(ip("198.51.100.1:9")),
        };
        assert_eq!(Open::decode(&encoded(&open)), Some(open.clone()));
        let open = Open { via: None, client: Address::Unix(b"/run/x".to_vec()), ..open };
        assert_eq!(Open::decode(&encoded(&open)), Some(open));
    }

    #[test]
    fn the_longest_description_fits() {
        let path = Address::Unix(vec![b'x'; MAX_UNIX]);
        let listener = "n".repeat(MAX_NAME).into();
        let open = Open { listener, client: path.clone(), local: path.clone(), via: Some(path) };
        assert!(open.is_valid());
        assert!(encoded(&open).len() <= MAX_OPEN);
        assert_eq!(Open::decode(&encoded(&open)), Some(open));
    }

    #[test]
    fn facts_of_a_later_version_are_passed_over() {
        let open =
            Open { listener: "c2s".into(), client: ip("192.0.2.7:1"), local: ip("192.0.2.8:2"), via: None };
        let mut bytes = encoded(&open);
        bytes.extend_from_slice(&[200, 3, 1, 2, 3]);
        assert_eq!(Open::decode(&bytes), Some(open));
        bytes.pop();
        assert_eq!(Open::decode(&bytes), None);
    }

    #[test]
    fn a_cut_description_is_none() {
        let open =
            Open { listener: "c2s".into(), client: ip("192.0.2.7:1"), local: ip("[::1]:2"), via: None };
        let bytes = encoded(&open);
        assert!((0..bytes.len()).all(|end| Open::decode(&bytes[..end]).is_none()));
    }
}
