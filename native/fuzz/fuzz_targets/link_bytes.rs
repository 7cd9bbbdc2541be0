//! Bytes that either end of a link gets, behind a stream that is open, or that a handshake gets.
//!
//! Held to be true: cut anyhow, the same events, data put together; all is taken; heap memory is bounded by the streams that were
//! opened; what an end says behind an error ends its link; a handshake lets nobody in.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::{pieces, within_heap};
use megaphone_proto::link::{Acceptor, Config, Dial, Dialer, Event, Link, LinkId, Open, Secret, Side};
use megaphone_proto::proxy::Address;
use megaphone_proto::time::Time;

/// One page of streams, and a block of what is to be sent, for the highest number that is taken.
const MOST_HEAP: usize = 512 << 10;

fuzz_target!(|input: (bool, [u8; 4], &[u8])| {
    let (is_node, sizes, bytes) = input;
    within_heap(MOST_HEAP, || {
        let whole = told(is_node, std::iter::once(bytes));
        assert_eq!(told(is_node, pieces(bytes, sizes)), whole);
    });
    let config = Arc::new(config());
    let mut acceptor = Acceptor::new(config.clone(), [1; 32], b"", Time::START);
    assert!(!matches!(acceptor.handle_input(&mut &*bytes), Ok(Some(_))));
    let dial = Dial { to: "", link: LinkId([2; 16]), attempt: 0, received: 0, nonce: [3; 32], binding: b"" };
    let mut dialer = Dialer::new(config, dial, Time::START);
    assert!(!matches!(dialer.handle_input(&mut &*bytes), Ok(Some(_))));
});

fn config() -> Config {
    let secret = Secret::new(&[7; 32]).expect("long enough");
    Config { max_streams: 1024, ..Config::new("node", secret) }
}

fn told<'a>(is_node: bool, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let config = Arc::new(config());
    let side = if is_node { Side::Node } else { Side::Ecm };
    let mut link = Link::new(config.clone(), side, config.params(), Time::START);
    let address = Address::Unix(Vec::new());
    let open = Open { listener: "c2s".into(), client: address.clone(), local: address, via: None };
    assert_eq!(link.open(&open).is_ok(), !is_node);
    let mut written = link.poll_transmit().concat().len();
    link.written(written);
    let (mut told, mut data) = (Vec::new(), None::<(u32, Vec<u8>)>);
    for mut piece in pieces {
        while let Some(event) = link.handle_input(&mut piece, Time::START) {
            match (event, &mut data) {
                (Event::Data(number, bytes), Some((last, have))) if *last == number => have.extend(bytes),
                (event, data) => {
                    told.extend(data.take().map(|data| format!("{data:?}")));
                    match event {
                        Event::Data(number, bytes) => *data = Some((number, bytes.to_vec())),
                        event => told.push(format!("{event:?}")),
                    }
                }
            }
        }
        assert!(piece.is_empty());
    }
    told.extend(data.map(|data| format!("{data:?}")));
    loop {
        let bytes = link.poll_transmit().concat().len();
        if bytes == 0 {
            break;
        }
        link.written(bytes);
        written += bytes;
    }
    assert!(written <= 1 << 10 || !link.is_over());
    told
}
