//! Version 1: one line of text (section 2.1).

use super::{Address, Addresses, Error, Header, MAX_V1, has_signature};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

pub(super) fn parse(input: &[u8]) -> Result<Option<Header>, Error> {
    if !has_signature(input, SIGNATURE)? {
        return Ok(None);
    }
    let Some(end) = line_end(input)? else { return Ok(None) };
    let addresses = addresses(&input[SIGNATURE.len()..end])?;
    Ok(Some(Header { len: end + 2, addresses }))
}

/// Where the line ends. A CR or an LF that stands alone ends nothing.
fn line_end(input: &[u8]) -> Result<Option<usize>, Error> {
    let most = MAX_V1 - 2;
    match memchr::memchr2(b'\r', b'\n', &input[..input.len().min(most + 1)]) {
        Some(at) if input[at] == b'\n' => Err(Error::Line),
        Some(at) => match input.get(at + 1) {
            Some(b'\n') => Ok(Some(at)),
            Some(_) => Err(Error::Line),
            None => Ok(None),
        },
        None if input.len() > most => Err(Error::TooLong),
        None => Ok(None),
    }
}

/// What stands between the signature and the line end.
fn addresses(line: &[u8]) -> Result<Option<Addresses>, Error> {
    // What follows UNKNOWN is not to be looked at, and may be anything.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| Error::Line)?;
    let fields: Vec<&str> = line.splitn(6, ' ').collect();
    let &[family, source, destination, source_port, destination_port] = &fields[..] else {
        return Err(Error::Line);
    };
    let source = end(family, source, source_port)?;
    let destination = end(family, destination, destination_port)?;
    Ok(Some(Addresses { source, destination }))
}

fn end(family: &str, address: &str, port: &str) -> Result<Address, Error> {
    let ip = match family {
        "TCP4" => address.parse::<Ipv4Addr>().map(IpAddr::V4),
        "TCP6" => address.parse::<Ipv6Addr>().map(IpAddr::V6),
        _ => return Err(Error::Line),
    };
    Ok(Address::Ip(SocketAddr::new(ip.map_err(|_| Error::Line)?, number(port)?)))
}

/// Digits alone, and no zero before others: Rust's own parser would take a sign and zeros.
fn number(port: &str) -> Result<u16, Error> {
    let is_plain = port.bytes().all(|byte| byte.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
    if is_plain { port.parse().map_err(|_| Error::Line) } else { Err(Error::Line) }
}
