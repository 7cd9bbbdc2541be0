//! Headers of the PROXY protocol: what is one, what is none, and that it does not matter how they are cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use megaphone_proto::proxy::{Address, Addresses, Error, Header, MAX_V1, MAX_V2, parse};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &len, rest].concat()
}

/// The addresses of a whole header that is all of the input.
#[track_caller]
fn addresses(input: &[u8]) -> Option<Addresses> {
    let header = parse(input).expect("no error").expect("a whole header");
    assert_eq!(header.len, input.len());
    header.addresses
}

fn ends(source: &str, destination: &str) -> Option<Addresses> {
    let end = |text: &str| Address::Ip(text.parse::<SocketAddr>().unwrap());
    Some(Addresses { source: end(source), destination: end(destination) })
}

#[test]
fn a_line_tells_both_ends() {
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 5222\r\n";
    assert_eq!(addresses(line), ends("192.0.2.7:56324", "198.51.100.1:5222"));
    let line = b"PROXY TCP6 2001:db8::7 ::ffff:198.51.100.1 65535 0\r\n";
    assert_eq!(addresses(line), ends("[2001:db8::7]:65535", "[::ffff:198.51.100.1]:0"));
}

#[test]
fn an_unknown_client_has_the_proxys_address() {
    assert_eq!(addresses(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(addresses(b"PROXY UNKNOWN ffff::1 1.2.3.4 whatever\xff\x00\r\n"), None);
}

#[test]
fn bytes_behind_the_header_are_not_its() {
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 5222\r\n";
    let header = parse(&[&line[..], b"<?xml version='1.0'?>"].concat()).unwrap().unwrap();
    assert_eq!(header.len, line.len());
    let binary = v2(0x20, 0, b"");
    assert_eq!(parse(&[&binary[..], b"\r\n\r\n"].concat()).unwrap().unwrap().len, binary.len());
}

#[test]
fn the_binary_header_tells_both_ends() {
    let both = [&[192, 0, 2, 7, 198, 51, 100, 1][..], &[0xdc, 4, 0x14, 0x66]].concat();
    assert_eq!(addresses(&v2(0x21, 0x11, &both)), ends("192.0.2.7:56324", "198.51.100.1:5222"));
    let datagrams = addresses(&v2(0x21, 0x12, &both));
    assert_eq!(datagrams, ends("192.0.2.7:56324", "198.51.100.1:5222"), "HTTP/3 at the proxy");
    let (source, destination) = (Ipv6Addr::LOCALHOST.octets(), "2001:db8::1".parse::<Ipv6Addr>().unwrap());
    let both = [&source[..], &destination.octets(), &[0, 80, 1, 187]].concat();
    assert_eq!(addresses(&v2(0x21, 0x21, &both)), ends("[::1]:80", "[2001:db8::1]:443"));
}

#[test]
fn what_follows_the_addresses_is_skipped() {
    let both = [&[192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 0x14, 0x66][..], &[0xee; 300]].concat();
    assert_eq!(addresses(&v2(0x21, 0x11, &both)), ends("192.0.2.7:56324", "198.51.100.1:5222"));
}

#[test]
fn a_unix_client_has_a_path() {
    let mut both = [0; 216];
    both[..9].copy_from_slice(b"/run/user");
    both[108..113].copy_from_slice(b"\0name");
    let unix = |path: &[u8]| Address::Unix(path.to_vec());
    let expected = Addresses { source: unix(b"/run/user"), destination: unix(b"\0name") };
    assert_eq!(addresses(&v2(0x21, 0x31, &both)), Some(expected));
    let nameless = Addresses { source: unix(b""), destination: unix(b"") };
    assert_eq!(addresses(&v2(0x21, 0x32, &[0; 216])), Some(nameless));
}

#[test]
fn a_connection_of_the_proxys_own_has_its_address() {
    assert_eq!(addresses(&v2(0x20, 0x00, b"")), None);
    assert_eq!(addresses(&v2(0x20, 0x11, &[1; 12])), None, "whatever else it says");
    assert_eq!(addresses(&v2(0x20, 0xff, b"abc")), None, "even nonsense");
    assert_eq!(addresses(&v2(0x21, 0x00, b"abc")), None);
}

#[test]
fn the_bounds_are_bounds() {
    let line = |len: usize| [&b"PROXY UNKNOWN "[..], &vec![b'x'; len - 16], b"\r\n"].concat();
    assert_eq!(addresses(&line(MAX_V1)), None);
    assert_eq!(parse(&line(MAX_V1 + 1)), Err(Error::TooLong));
    assert_eq!(parse(&[&b"PROXY UNKNOWN "[..], &[b'x'; 91]].concat()), Ok(None));
    assert_eq!(parse(&[&b"PROXY UNKNOWN "[..], &[b'x'; 92]].concat()), Err(Error::TooLong));
    assert_eq!(addresses(&v2(0x20, 0, &vec![0; MAX_V2 - 16])), None);
    let long = v2(0x20, 0, &vec![0; MAX_V2 - 15]);
    assert_eq!(parse(&long[..16]), Err(Error::TooLong), "before any of it has come");
}

#[test]
fn what_is_no_line_of_version_1_is_refused() {
    let bad = [
        "",
        "tcp4 1.2.3.4 1.2.3.4 1 2",
        "TCP5 1.2.3.4 1.2.3.4 1 2",
        "TCP4",
        "TCP4 1.2.3.4",
        "TCP4 1.2.3.4 1.2.3.4 1",
        "TCP4 1.2.3.4 1.2.3.4 1 2 3",
        "TCP4 1.2.3.4 1.2.3.4 1 2 ",
        "TCP4  1.2.3.4 1.2.3.4 1 2",
        " TCP4 1.2.3.4 1.2.3.4 1 2",
        "TCP4\t1.2.3.4 1.2.3.4 1 2",
        "TCP4 1.2.3.4 1.2.3.4 +1 2",
        "TCP4 1.2.3.4 1.2.3.4 01 2",
        "TCP4 1.2.3.4 1.2.3.4 1 65536",
        "TCP4 1.2.3.4 1.2.3.4 1 -2",
        "TCP4 1.2.3.4 1.2.3.4  2",
        "TCP4 01.2.3.4 1.2.3.4 1 2",
        "TCP4 1.2.3 1.2.3.4 1 2",
        "TCP4 256.2.3.4 1.2.3.4 1 2",
        "TCP4 ::1 ::1 1 2",
        "TCP6 1.2.3.4 1.2.3.4 1 2",
        "TCP6 ::1%eth0 ::1 1 2",
        "TCP6 [::1] ::1 1 2",
        "TCP6 ::1 1:2:3:4:5:6:7:8:9 1 2",
        "UNKNOWNS",
        "UNIX /a /b",
        "TCP4 1.2.3.4 1.2.3.4 1 2\n",
        "TCP4 1.2.3.4 1.2.3.4 1 2\rx",
        "UNKNOWN\n",
        "UNKNOWN \r \r\n",
    ];
    for line in bad {
        assert_eq!(parse(format!("PROXY {line}\r\n").as_bytes()), Err(Error::Line), "{line:?}");
    }
    assert_eq!(parse(b"PROXY TCP4 \xff.2.3.4 1.2.3.4 1 2\r\n"), Err(Error::Line));
}

#[test]
fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
    for input in
        [&b"G"[..], b"<", b"\x16\x03\x01", b"PROXY\t", b"PROXX", b"P\r", b"\n", b"\r\n\r\n\r", b" PROXY "]
    {
        assert_eq!(parse(input), Err(Error::Signature), "{input:?}");
    }
    let cut = |command, family| [SIGNATURE, &[command, family]].concat();
    assert_eq!(parse(&cut(0x11, 0x11)), Err(Error::Command));
    assert_eq!(parse(&cut(0x22, 0x11)), Err(Error::Command));
    assert_eq!(parse(&cut(0x01, 0x11)), Err(Error::Command));
    for family in [0x01, 0x02, 0x10, 0x13, 0x20, 0x23, 0x30, 0x33, 0x41, 0xff] {
        assert_eq!(parse(&cut(0x21, family)), Err(Error::Family), "{family}");
    }
    for (family, len) in [(0x11, 11), (0x21, 35), (0x31, 215)] {
        assert_eq!(parse(&v2(0x21, family, &vec![0; len])[..16]), Err(Error::Length), "{family}");
    }
}

fn address() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (Ipv4Addr::from(a).into(), Ipv4Addr::from(b).into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (Ipv6Addr::from(a).into(), Ipv6Addr::from(b).into())),
    ]
}

/// As a proxy of either version writes it.
fn written(version: u8, source: SocketAddr, destination: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
    if version == 1 {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), destination.ip());
        let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
        return line.into_bytes();
    }
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let rest = [octets(source.ip()), octets(destination.ip()), ports, tlvs.to_vec()].concat();
    v2(0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, &rest)
}

/// Headers, and what is nearly one.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let tlvs = proptest::collection::vec(any::<u8>(), 0..64);
    let header =
        (1..3u8, address(), any::<(u16, u16)>(), tlvs).prop_map(|(version, (from, to), ports, tlvs)| {
            written(version, SocketAddr::new(from, ports.0), SocketAddr::new(to, ports.1), &tlvs)
        });
    let changed = (header, proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3));
    prop_oneof![
        changed.prop_map(|(mut header, changes)| {
            changes.iter().for_each(|(at, byte)| *at.get_mut(&mut header) = *byte);
            header
        }),
        "PROXY (TCP4|TCP6|UNKNOWN|)[ 0-9a-f:.\r\n]{0,120}".prop_map(String::into_bytes),
        (any::<u8>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..64))
            .prop_map(|(command, family, rest)| v2(command, family, &rest)),
        proptest::collection::vec(any::<u8>(), 0..300),
    ]
}

proptest! {
    #[test]
    fn what_a_proxy_writes_is_read(
        version in 1..3u8, (from, to) in address(), ports in any::<(u16, u16)>(),
        tlvs in proptest::collection::vec(any::<u8>(), 0..512), behind in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let (source, destination) = (SocketAddr::new(from, ports.0), SocketAddr::new(to, ports.1));
        let header = written(version, source, destination, &tlvs);
        let addresses = Addresses { source: Address::Ip(source), destination: Address::Ip(destination) };
        let expected = Header { len: header.len(), addresses: Some(addresses) };
        prop_assert_eq!(parse(&[header, behind].concat()), Ok(Some(expected)));
    }

    /// So no split of the input changes what becomes of the connection.
    #[test]
    fn a_verdict_on_a_part_is_the_verdict_on_the_whole(input in input(), behind in any::<[u8; 4]>()) {
        let whole = parse(&[&input[..], &behind].concat());
        for at in 0..=input.len() {
            match parse(&input[..at]) {
                Ok(None) => {}
                verdict => prop_assert_eq!(&verdict, &whole, "after {} bytes", at),
            }
        }
    }

    #[test]
    fn nothing_is_waited_for_beyond_the_bounds(input in input()) {
        let longest = [&input[..], &[b' '; MAX_V2]].concat();
        prop_assert!(parse(&longest[..MAX_V2]) != Ok(None));
        if input.first() == Some(&b'P') {
            prop_assert!(parse(&longest[..MAX_V1]) != Ok(None));
        }
    }
}
