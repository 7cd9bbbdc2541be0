//! Both ends, connections that are cut anywhere: nothing is lost, doubled or out of order.

use megaphone_proto::link::{Cause, Config, Event, Link, ResumeError};
use megaphone_proto::time::Time;
use proptest::prelude::*;

use crate::driver::{client, config, pair, write};

const STREAMS: u32 = 5;
const LENGTH: usize = 700;

fn small() -> Config {
    Config { max_payload: 1024, resend_bytes: 6000, unsent_bytes: 2000, initial_credit: 300, ..config() }
}

/// An end, its owner, and what is under way to it.
struct End {
    link: Link,
    sent: [usize; STREAMS as usize],
    got: [usize; STREAMS as usize],
    under_way: Vec<u8>,
}

/// The byte of a stream at a place.
fn byte(stream: u32, at: usize) -> u8 {
    (stream as usize * 31 + at * 7 + at / 251) as u8
}

impl End {
    fn new(link: Link) -> Self {
        Self { link, sent: [0; 5], got: [0; 5], under_way: Vec::new() }
    }

    fn receive(&mut self, count: usize, now: Time) {
        let bytes: Vec<_> = self.under_way.drain(..count.min(self.under_way.len())).collect();
        let mut rest = &bytes[..];
        while let Some(event) = self.link.handle_input(&mut rest, now) {
            match event {
                Event::Opened(number, _) => self.link.want_to_send(number),
                Event::Data(number, bytes) => {
                    let got = &mut self.got[number as usize];
                    for have in bytes {
                        assert_eq!(*have, byte(number, *got), "stream {number} at {got}");
                        *got += 1;
                    }
                    self.link.grant(number, bytes.len() as u32);
                }
                Event::Suspended | Event::Resumed => {}
                event => panic!("{event:?}"),
            }
        }
    }

    fn send(&mut self) {
        while let Some((number, quantum)) = self.link.poll_ready() {
            let sent = &mut self.sent[number as usize];
            let bytes: Vec<_> = (*sent..LENGTH.min(*sent + quantum)).map(|at| byte(number, at)).collect();
            if !bytes.is_empty() {
                self.link.send_data(number, &bytes).unwrap();
                *sent += bytes.len();
                self.link.want_to_send(number);
            }
        }
        assert!(self.link.kept_bytes() <= 6000);
    }

    fn is_done(&self) -> bool {
        self.got.iter().all(|got| *got == LENGTH)
    }
}

fn reconnect(ecm: &mut End, node: &mut End, now: Time) {
    ecm.link.handle_disconnect(now);
    (ecm.under_way, node.under_way) = (Vec::new(), Vec::new());
    let attempt = ecm.link.next_attempt();
    let ecm_has = ecm.link.received();
    // The node may not have noticed.
    node.link.resume(attempt, ecm_has, now).unwrap();
    assert_eq!(node.link.resume(attempt, ecm_has, now), Err(ResumeError::Stale));
    let node_has = node.link.received();
    ecm.link.resume(attempt, node_has, now).unwrap();
}

/// Transfers all streams both ways, with the sizes of pieces given, and cuts after so many bytes, again and again.
fn transfer(pieces: &[usize], cuts: &[usize]) -> usize {
    let (ecm, node) = pair(small());
    let (mut ecm, mut node) = (End::new(ecm), End::new(node));
    for _ in 0..STREAMS {
        let number = ecm.link.open(&client()).unwrap();
        ecm.link.want_to_send(number);
    }
    let mut cuts = cuts.iter();
    let mut until_cut = cuts.next().copied().unwrap_or(usize::MAX);
    let (mut total, mut now) = (0, Time::START);
    for piece in pieces.iter().cycle() {
        for (from, to) in [(true, false), (false, true)] {
            let (from, to) = if from && !to { (&mut ecm, &mut node) } else { (&mut node, &mut ecm) };
            from.send();
            let bytes = write(&mut from.link, (*piece).min(until_cut));
            total += bytes.len();
            until_cut -= bytes.len();
            to.under_way.extend_from_slice(&bytes);
            // All but some of it arrives.
            let late = if until_cut == 0 { piece % 5 } else { 0 };
            to.receive(to.under_way.len().saturating_sub(late), now);
            if until_cut == 0 {
                reconnect(&mut ecm, &mut node, now);
                until_cut = cuts.next().copied().unwrap_or(usize::MAX);
            }
        }
        now = now.after(std::time::Duration::from_millis(100));
        ecm.link.handle_timeout(now);
        node.link.handle_timeout(now);
        if ecm.is_done() && node.is_done() {
            break;
        }
        assert!(now.ticks() < 200_000, "nothing moves");
    }
    total
}

#[test]
fn a_connection_may_be_cut_at_every_byte() {
    let total = transfer(&[700], &[]);
    assert!(total > 2 * STREAMS as usize * LENGTH && total < 20_000);
    for at in 1..total {
        transfer(&[700], &[at]);
    }
}

#[test]
fn a_connection_may_be_cut_at_every_byte_again() {
    for at in 1..3000 {
        transfer(&[200 + at % 7], &[at, 1 + at % 13, 40, at]);
    }
}

proptest! {
    #[test]
    fn however_it_is_cut_all_arrives_once(
        pieces in proptest::collection::vec(1usize..3000, 1..8),
        cuts in proptest::collection::vec(1usize..5000, 0..40),
    ) {
        transfer(&pieces, &cuts);
    }
}

#[test]
fn a_point_beyond_what_is_kept_ends_the_link() {
    let (mut ecm, _) = pair(small());
    ecm.open(&client()).unwrap();
    let written = write(&mut ecm, usize::MAX).len() as u64;
    ecm.handle_disconnect(Time::START);
    assert_eq!(ecm.poll_event(), Some(Event::Suspended));
    let attempt = ecm.next_attempt();
    assert_eq!(ecm.resume(attempt, written + 1, Time::START), Err(ResumeError::CannotResume));
    assert_eq!(ecm.poll_event(), Some(Event::Lost(Cause::CannotResume)));
    assert_eq!(ecm.poll_lost(), Some(0));
}
