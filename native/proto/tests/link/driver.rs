//! Both ends of a link, and what they write.

use std::sync::Arc;

use megaphone_proto::link::{Config, Event, Link, Open, Secret, Side};
use megaphone_proto::proxy::Address;
use megaphone_proto::time::Time;

pub(crate) fn config() -> Config {
    Config::new("ejabberd@localhost", Secret::new(&[7; 32]).unwrap())
}

pub(crate) fn client() -> Open {
    let address = Address::Ip("192.0.2.7:4711".parse().unwrap());
    Open { listener: "c2s".into(), client: address.clone(), local: address, via: None }
}

pub(crate) fn pair(config: Config) -> (Link, Link) {
    let config = Arc::new(config);
    let params = config.params();
    let end = |side| Link::new(config.clone(), side, params, Time::START);
    (end(Side::Ecm), end(Side::Node))
}

/// Writes at most so many bytes.
pub(crate) fn write(link: &mut Link, mut most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while most > 0 {
        let bytes = link.poll_transmit().concat();
        let n = bytes.len().min(most);
        if n == 0 {
            break;
        }
        out.extend_from_slice(&bytes[..n]);
        link.written(n);
        most -= n;
    }
    out
}

/// What the owner is told, in short; data in one piece for each stream in a row.
pub(crate) fn read(link: &mut Link, mut bytes: &[u8], now: Time) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(event) = link.handle_input(&mut bytes, now) {
        told.push(in_short(&event));
    }
    assert!(bytes.is_empty());
    told
}

pub(crate) fn in_short(event: &Event<'_>) -> String {
    match event {
        Event::Opened(number, open) => format!("opened {number} {}", open.listener),
        Event::Data(number, bytes) => format!("data {number} {}", String::from_utf8_lossy(bytes)),
        Event::Lost(cause) => format!("lost: {cause}"),
        event => format!("{event:?}"),
    }
}

pub(crate) fn pass(from: &mut Link, to: &mut Link) -> Vec<String> {
    let bytes = write(from, usize::MAX);
    read(to, &bytes, Time::START)
}
