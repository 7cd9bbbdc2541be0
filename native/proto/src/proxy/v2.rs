//! Version 2: binary (section 2.2). What follows the addresses (TLVs) is skipped.

use super::{Address, Addresses, Error, Header, MAX_V2, has_signature};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, a byte of version and command, one of family and transport, and the length of the rest.
const FIXED: usize = SIGNATURE.len() + 4;
/// Bytes of a unix address.
const UNIX: usize = 108;

/// Of the connection that is passed on. Its transport, a stream or datagrams, makes no difference here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Unspecified,
    V4,
    V6,
    Unix,
}

impl Family {
    fn of(byte: u8) -> Result<Self, Error> {
        Ok(match byte {
            0x00 => Self::Unspecified,
            0x11 | 0x12 => Self::V4,
            0x21 | 0x22 => Self::V6,
            0x31 | 0x32 => Self::Unix,
            _ => return Err(Error::Family),
        })
    }

    /// Bytes of one address without its port.
    const fn size(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::V4 => 4,
            Self::V6 => 16,
            Self::Unix => UNIX,
        }
    }

    /// Bytes of both ends.
    const fn both(self) -> usize {
        let ports = if matches!(self, Self::V4 | Self::V6) { 4 } else { 0 };
        2 * self.size() + ports
    }
}

pub(super) fn parse(input: &[u8]) -> Result<Option<Header>, Error> {
    if !has_signature(input, SIGNATURE)? {
        return Ok(None);
    }
    let Some(family) = fixed_part(&input[SIGNATURE.len()..])? else { return Ok(None) };
    let &[high, low] = &input[FIXED - 2..FIXED] else { return Ok(None) };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_V2 {
        return Err(Error::TooLong);
    }
    if len < FIXED + family.both() {
        return Err(Error::Length);
    }
    if input.len() < len {
        return Ok(None);
    }
    Ok(Some(Header { len, addresses: addresses(family, &input[FIXED..FIXED + family.both()]) }))
}

/// What stands between the signature and the addresses, when it is there. The family of a connection of the proxy's own is
/// not looked at.
fn fixed_part(bytes: &[u8]) -> Result<Option<Family>, Error> {
    let family = match bytes.first() {
        None => return Ok(None),
        Some(0x20) => Some(Family::Unspecified),
        Some(0x21) => bytes.get(1).map(|byte| Family::of(*byte)).transpose()?,
        Some(_) => return Err(Error::Command),
    };
    Ok(family.filter(|_| bytes.len() >= 4))
}

/// `bytes` are as many as the family has.
fn addresses(family: Family, bytes: &[u8]) -> Option<Addresses> {
    let (source, rest) = bytes.split_at_checked(family.size())?;
    let (destination, ports) = rest.split_at_checked(family.size())?;
    Some(Addresses {
        source: address(family, source, ports.get(..2))?,
        destination: address(family, destination, ports.get(2..))?,
    })
}

fn address(family: Family, bytes: &[u8], port: Option<&[u8]>) -> Option<Address> {
    let ip = match family {
        Family::Unspecified => return None,
        Family::V4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        Family::Unix => return Some(Address::Unix(path(bytes))),
    };
    let port = u16::from_be_bytes(port?.try_into().ok()?);
    Some(Address::Ip(SocketAddr::new(ip, port)))
}

/// The path without the zeros behind it. One of Linux's abstract names begins with a zero.
fn path(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes[..end].to_vec()
}
