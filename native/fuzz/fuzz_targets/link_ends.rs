//! Both ends of a link, their owners, the clock and connections that break anywhere, doing what they may do in any order.
//!
//! Held to be true: neither end ever accuses the other; a stream's bytes arrive once and in order, whatever is cut, until the
//! receiver's owner has taken leave; no more is kept than the bound; a stream is handed out only with credit and room, and
//! what is handed out is taken; a timer that is early does nothing, and none runs without end.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::within_heap;
use megaphone_proto::link::{Config, Event, Link, Open, OpenError, Reason, Secret, Side};
use megaphone_proto::proxy::Address;
use megaphone_proto::time::Time;

const MOST_HEAP: usize = 1 << 20;
const RESEND: usize = 5000;
const REASONS: [Reason; 3] = [Reason::Eof, Reason::Closed, Reason::Reset];

#[derive(Arbitrary, Debug)]
enum Operation {
    Open,
    /// At the ECM or the node, the stream that comes at this place.
    Want(bool, u8),
    /// Sends at most so much on the stream whose turn it is.
    Send(bool, u16),
    Grant(bool, u8, u16),
    Close(bool, u8, u8),
    /// So much of what there is to write is written.
    Write(bool, u16),
    /// So much of what was written arrives.
    Arrive(bool, u16),
    /// The connection breaks, and another resumes the link after so many ticks.
    Break(u8),
    Pass(u8),
}

/// What is known of a stream at one end.
#[derive(Default)]
struct Known {
    generation: u32,
    sent: u32,
    got: u32,
    has_closed: bool,
    peer_has_closed: bool,
}

struct End {
    link: Link,
    streams: BTreeMap<u32, Known>,
    under_way: Vec<u8>,
    opened: u32,
}

struct World {
    ends: [End; 2],
    now: Time,
}

fuzz_target!(|operations: Vec<Operation>| {
    within_heap(MOST_HEAP, || {
        let mut world = World::new();
        for operation in &operations {
            world.perform(operation);
            for end in &world.ends {
                assert!(end.link.kept_bytes() <= RESEND);
                assert!(end.link.is_connected());
            }
        }
        world.settle();
    });
});

fn byte(generation: u32, at: u32) -> u8 {
    (generation.wrapping_mul(31) + at.wrapping_mul(7) + at / 251) as u8
}

impl World {
    fn new() -> Self {
        let secret = Secret::new(&[7; 32]).expect("long enough");
        let config = Arc::new(Config {
            max_payload: 1024,
            resend_bytes: RESEND,
            unsent_bytes: 3000,
            initial_credit: 300,
            max_streams: 6,
            ..Config::new("node", secret)
        });
        let end = |side| End {
            link: Link::new(config.clone(), side, config.params(), Time::START),
            streams: BTreeMap::new(),
            under_way: Vec::new(),
            opened: 0,
        };
        Self { ends: [end(Side::Ecm), end(Side::Node)], now: Time::START }
    }

    fn perform(&mut self, operation: &Operation) {
        match *operation {
            Operation::Open => self.ends[0].open(),
            Operation::Want(at, number) => self.end(at).link.want_to_send(u32::from(number % 6)),
            Operation::Send(at, most) => drop(self.end(at).send(most.into())),
            Operation::Grant(at, number, bytes) => {
                self.end(at).link.grant(u32::from(number % 6), bytes.into());
            }
            Operation::Close(at, number, reason) => self.end(at).close(number % 6, reason),
            Operation::Write(at, most) => self.write(at, most.into()),
            Operation::Arrive(at, count) => {
                let now = self.now;
                self.end(at).arrive(count.into(), now);
            }
            Operation::Break(ticks) => self.reconnect(ticks),
            Operation::Pass(ticks) => self.pass(ticks % 50),
        }
    }

    fn end(&mut self, at: bool) -> &mut End {
        &mut self.ends[usize::from(at)]
    }

    fn write(&mut self, from: bool, mut most: usize) {
        while most > 0 {
            let link = &mut self.end(from).link;
            let bytes = link.poll_transmit().concat();
            let count = bytes.len().min(most);
            if count == 0 {
                return;
            }
            link.written(count);
            most -= count;
            self.end(!from).under_way.extend_from_slice(&bytes[..count]);
        }
    }

    fn reconnect(&mut self, ticks: u8) {
        let now = self.now;
        let [ecm, node] = &mut self.ends;
        ecm.under_way.clear();
        node.under_way.clear();
        ecm.link.handle_disconnect(now);
        if ticks.is_multiple_of(2) {
            node.link.handle_disconnect(now);
        }
        let now = Time::from_ticks(now.ticks() + u32::from(ticks % 20));
        let attempt = ecm.link.next_attempt();
        node.link.resume(attempt, ecm.link.received(), now).expect("kept");
        ecm.link.resume(attempt, node.link.received(), now).expect("kept");
        self.now = now;
    }

    /// Short of the time after which silence is death, all of which is written and arrives first.
    fn pass(&mut self, ticks: u8) {
        for at in [false, true] {
            self.write(at, usize::MAX);
            let now = self.now;
            self.end(!at).arrive(usize::MAX, now);
        }
        let end = Time::from_ticks(self.now.ticks() + u32::from(ticks));
        for at in [false, true] {
            let link = &mut self.end(at).link;
            let mut timers = 0;
            while let Some(due) = link.poll_timeout().filter(|due| *due <= end) {
                link.handle_timeout(Time::from_ticks(due.ticks() - 1));
                assert_eq!(link.poll_timeout(), Some(due));
                link.handle_timeout(due);
                timers += 1;
                assert!(timers < 20 && link.poll_timeout() > Some(due));
            }
        }
        self.now = end;
        for at in [false, true, false] {
            self.write(at, usize::MAX);
            let now = self.now;
            self.end(!at).arrive(usize::MAX, now);
        }
    }

    /// All that was sent arrives, and all that both ends have closed is gone.
    fn settle(&mut self) {
        for number in 0..6 {
            self.ends[0].close(number, 1);
        }
        for _ in 0..100 {
            self.now = self.now.after(Duration::from_millis(400));
            for at in [false, true] {
                let now = self.now;
                let end = self.end(at);
                end.link.handle_timeout(now);
                for number in 0..6 {
                    if end.streams.get(&number).is_some_and(|known| known.peer_has_closed) {
                        end.close(number as u8, 1);
                    }
                }
                self.write(at, usize::MAX);
                self.end(!at).arrive(usize::MAX, now);
            }
        }
        for end in &self.ends {
            assert_eq!((end.link.streams(), end.link.kept_bytes()), (0, 0));
        }
    }
}

impl End {
    fn open(&mut self) {
        let address = Address::Unix(Vec::new());
        let open = Open { listener: "c2s".into(), client: address.clone(), local: address, via: None };
        match self.link.open(&open) {
            Ok(number) => self.begin(number),
            Err(error) => assert!(matches!(error, OpenError::Full | OpenError::TooMany)),
        }
    }

    fn begin(&mut self, number: u32) {
        self.opened += 1;
        let known = Known { generation: self.opened, ..Known::default() };
        let before = self.streams.insert(number, known);
        assert!(before.is_none_or(|before| before.has_closed), "used again too early");
    }

    fn send(&mut self, most: usize) -> Option<()> {
        let (number, quantum) = self.link.poll_ready()?;
        let known = self.streams.get_mut(&number)?;
        let count = most.min(quantum).max(1) as u32;
        let bytes: Vec<_> = (known.sent..known.sent + count).map(|at| byte(known.generation, at)).collect();
        assert_eq!(self.link.send_data(number, &bytes), Ok(()));
        known.sent += count;
        Some(())
    }

    fn close(&mut self, number: u8, reason: u8) {
        let number = u32::from(number);
        let reason = REASONS[usize::from(reason) % REASONS.len()];
        let Some(known) = self.streams.get_mut(&number).filter(|known| !known.has_closed) else { return };
        known.has_closed = reason != Reason::Eof;
        self.link.close(number, reason);
    }

    fn arrive(&mut self, count: usize, now: Time) {
        let count = count.min(self.under_way.len());
        let bytes: Vec<_> = self.under_way.drain(..count).collect();
        let mut rest = &bytes[..];
        while let Some(event) = self.link.handle_input(&mut rest, now) {
            match event {
                Event::Opened(number, _) => self.begin(number),
                Event::Data(number, bytes) => {
                    let known = self.streams.get_mut(&number).expect("open");
                    assert!(!known.has_closed && !known.peer_has_closed);
                    for have in bytes {
                        assert_eq!(*have, byte(known.generation, known.got));
                        known.got += 1;
                    }
                }
                Event::Eof(number) => assert!(!self.streams[&number].has_closed),
                Event::Closed(number, _) => {
                    let known = self.streams.get_mut(&number).expect("open");
                    assert!(!std::mem::replace(&mut known.peer_has_closed, true) && !known.has_closed);
                }
                Event::Suspended | Event::Resumed => {}
                event => panic!("{event:?}"),
            }
        }
    }
}
