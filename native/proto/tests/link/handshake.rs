//! The handshake: who is let in.

use std::sync::Arc;

use megaphone_proto::link::{
    Acceptor, Config, Dial, Dialer, Failure, LinkId, Refusal, Request, Secret, Welcome,
};
use megaphone_proto::time::Time;
use proptest::prelude::*;

use crate::driver::config;

const LINK: LinkId = LinkId([9; 16]);

fn named(name: &str) -> Arc<Config> {
    Arc::new(Config { name: name.into(), ..config() })
}

fn dial(config: Arc<Config>, to: &str, attempt: u32) -> Dialer {
    let dial = Dial { to, link: LINK, attempt, received: 77, nonce: [1; 32], binding: b"" };
    Dialer::new(config, dial, Time::START)
}

fn accept(config: Arc<Config>) -> Acceptor {
    Acceptor::new(config, [2; 32], b"", Time::START)
}

fn said_by_ecm(dialer: &mut Dialer) -> Vec<u8> {
    let mut out = Vec::new();
    dialer.poll_transmit(&mut out);
    out
}

fn said_by_node(acceptor: &mut Acceptor) -> Vec<u8> {
    let mut out = Vec::new();
    acceptor.poll_transmit(&mut out);
    out
}

/// What either end makes of it, the owner of the node's welcoming all.
fn shake(
    dialer: &mut Dialer,
    acceptor: &mut Acceptor,
) -> (Result<Welcome, Failure>, Result<Request, Failure>) {
    let request = loop {
        match acceptor.handle_input(&mut &said_by_ecm(dialer)[..]) {
            Ok(None) => {}
            Ok(Some(request)) => break Ok(request),
            Err(failure) => break Err(failure),
        }
        if let Err(failure) = dialer.handle_input(&mut &said_by_node(acceptor)[..]) {
            return (Err(failure), Err(Failure::Timeout));
        }
    };
    if let Ok(request) = &request {
        acceptor.welcome((request.attempt > 0).then_some(5));
    }
    let welcome = dialer.handle_input(&mut &said_by_node(acceptor)[..]).map(|welcome| welcome.unwrap());
    (welcome, request)
}

#[test]
fn both_ends_know_each_other_in_the_end() {
    for (attempt, received) in [(0, None), (3, Some(5))] {
        let (welcome, request) = shake(&mut dial(named("ecm"), "node", attempt), &mut accept(named("node")));
        let request = request.unwrap();
        assert_eq!((request.peer.name.as_str(), request.link), ("ecm", LINK));
        assert_eq!((request.attempt, request.received), (attempt, 77));
        let welcome = welcome.unwrap();
        assert_eq!((welcome.name.as_str(), welcome.received), ("node", received));
    }
}

#[test]
fn a_wrong_secret_is_refused_and_gets_no_proof() {
    let secret = Secret::new(&[8; 32]).unwrap();
    let mut acceptor = accept(named("node"));
    let mut dialer = dial(Arc::new(Config { secret, ..config() }), "", 0);
    let (welcome, request) = shake(&mut dialer, &mut acceptor);
    assert_eq!(request, Err(Failure::NotAuthenticated));
    assert_eq!(welcome, Err(Failure::NotBelieved));
}

#[test]
fn another_channel_below_is_refused() {
    let mut acceptor = Acceptor::new(named("node"), [2; 32], b"tls 1", Time::START);
    let dial = Dial { to: "", link: LINK, attempt: 0, received: 0, nonce: [1; 32], binding: b"tls 2" };
    let mut dialer = Dialer::new(named("ecm"), dial, Time::START);
    assert_eq!(shake(&mut dialer, &mut acceptor).1, Err(Failure::NotAuthenticated));
}

#[test]
fn a_node_of_another_name_does_not_take_it() {
    let mut acceptor = accept(named("other"));
    let (welcome, request) = shake(&mut dial(named("ecm"), "node", 0), &mut acceptor);
    assert_eq!(request, Err(Failure::Refused(Refusal::WrongNode)));
    assert_eq!(welcome, Err(Failure::Refused(Refusal::WrongNode)));
}

#[test]
fn what_an_ecm_said_before_is_not_believed_again() {
    let (mut dialer, mut acceptor) = (dial(named("ecm"), "", 0), accept(named("node")));
    let hello = said_by_ecm(&mut dialer);
    acceptor.handle_input(&mut &hello[..]).unwrap();
    dialer.handle_input(&mut &said_by_node(&mut acceptor)[..]).unwrap();
    let auth = said_by_ecm(&mut dialer);
    assert!(acceptor.handle_input(&mut &auth[..]).unwrap().is_some());
    let mut later = Acceptor::new(named("node"), [3; 32], b"", Time::START);
    let replayed = [hello, auth].concat();
    assert_eq!(later.handle_input(&mut &replayed[..]), Err(Failure::NotAuthenticated));
}

#[test]
fn its_own_words_are_not_believed() {
    let mut dialer = dial(named("ecm"), "", 0);
    let hello = said_by_ecm(&mut dialer);
    assert_eq!(dialer.handle_input(&mut &hello[..]), Err(Failure::NotALink));
    // Nor its own proof, as if it were the node's.
    let (mut dialer, mut acceptor) = (dial(named("ecm"), "", 0), accept(named("node")));
    acceptor.handle_input(&mut &said_by_ecm(&mut dialer)[..]).unwrap();
    dialer.handle_input(&mut &said_by_node(&mut acceptor)[..]).unwrap();
    let mut reflected = said_by_ecm(&mut dialer);
    reflected[0] = 0x84;
    assert_eq!(dialer.handle_input(&mut &reflected[..]), Err(Failure::NotAuthenticated));
}

#[test]
fn no_common_version_is_said() {
    let mut dialer = dial(named("ecm"), "", 0);
    let mut hello = said_by_ecm(&mut dialer);
    hello[11..15].copy_from_slice(&[0, 2, 0, 3]);
    let mut acceptor = accept(named("node"));
    assert_eq!(acceptor.handle_input(&mut &hello[..]), Err(Failure::Version(2, 3)));
    let refusal = said_by_node(&mut acceptor);
    assert_eq!(dialer.handle_input(&mut &refusal[..]), Err(Failure::Version(1, 1)));
}

#[test]
fn a_silent_peer_has_its_time() {
    let mut acceptor = accept(named("node"));
    let due = acceptor.poll_timeout().unwrap();
    assert_eq!(acceptor.handle_timeout(Time::from_ticks(due.ticks() - 1)), Ok(()));
    assert_eq!(acceptor.handle_timeout(due), Err(Failure::Timeout));
    assert_eq!(acceptor.poll_timeout(), None);
}

#[test]
fn whatever_bit_is_changed_under_way_neither_end_is_fooled() {
    let messages: [fn(&mut Dialer, &mut Acceptor, usize) -> bool; 2] = [changed_by_ecm, changed_by_node];
    for change in messages {
        let mut bit = 0;
        while change(&mut dial(named("ecm"), "node", 0), &mut accept(named("node")), bit) {
            bit += 1;
        }
        assert!(bit > 300);
    }
}

/// A bit of what the ECM says, an offer of another version among them. Whether there is such a bit.
fn changed_by_ecm(dialer: &mut Dialer, acceptor: &mut Acceptor, bit: usize) -> bool {
    let mut hello = said_by_ecm(dialer);
    let Some(byte) = hello.get_mut(bit / 8) else { return false };
    *byte ^= 1 << (bit % 8);
    if acceptor.handle_input(&mut &hello[..]).is_ok() {
        let _ = dialer.handle_input(&mut &said_by_node(acceptor)[..]);
        assert!(!matches!(acceptor.handle_input(&mut &said_by_ecm(dialer)[..]), Ok(Some(_))));
    }
    true
}

/// A bit of the node's welcome.
fn changed_by_node(dialer: &mut Dialer, acceptor: &mut Acceptor, bit: usize) -> bool {
    acceptor.handle_input(&mut &said_by_ecm(dialer)[..]).unwrap();
    dialer.handle_input(&mut &said_by_node(acceptor)[..]).unwrap();
    acceptor.handle_input(&mut &said_by_ecm(dialer)[..]).unwrap().unwrap();
    acceptor.welcome(None);
    let mut welcome = said_by_node(acceptor);
    let Some(byte) = welcome.get_mut(bit / 8) else { return false };
    *byte ^= 1 << (bit % 8);
    assert!(!matches!(dialer.handle_input(&mut &welcome[..]), Ok(Some(_))));
    true
}

proptest! {
    #[test]
    fn rubbish_is_no_handshake(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut acceptor = accept(named("node"));
        let mut rest = &bytes[..];
        prop_assert!(!matches!(acceptor.handle_input(&mut rest), Ok(Some(_))));
        prop_assert!(bytes.len() - rest.len() <= 8 + 3 + 400);
    }
}

#[test]
fn a_handshake_may_come_byte_by_byte_and_nothing_behind_it_is_taken() {
    let (mut dialer, mut acceptor) = (dial(named("ecm"), "", 0), accept(named("node")));
    for byte in said_by_ecm(&mut dialer) {
        assert_eq!(acceptor.handle_input(&mut &[byte][..]), Ok(None));
    }
    for byte in said_by_node(&mut acceptor) {
        assert_eq!(dialer.handle_input(&mut &[byte][..]), Ok(None));
    }
    let auth = [said_by_ecm(&mut dialer), b"frames".to_vec()].concat();
    let mut rest = &auth[..];
    assert!(acceptor.handle_input(&mut rest).unwrap().is_some());
    assert_eq!(rest, b"frames");
}
