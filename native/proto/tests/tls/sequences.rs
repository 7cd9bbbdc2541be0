//! Both ends, ours and rustls', in any order of sending, changing keys, and bytes arriving in pieces.

use crate::ends::{Pair, SIDES, pair, read, receive, suites, written};
use proptest::prelude::*;
use std::io::Write;

#[derive(Clone, Debug)]
enum Operation {
    Send(usize),
    TheirSend(usize),
    Update(bool),
    TheirUpdate,
    /// So many bytes of what is under way arrive.
    Arrive(usize),
    ArriveThere(usize),
    Rest,
}

fn operation() -> impl Strategy<Value = Operation> {
    let len = prop_oneof![3 => 1..200_usize, 1 => 16_300..33_000_usize];
    prop_oneof![
        len.clone().prop_map(Operation::Send),
        len.clone().prop_map(Operation::TheirSend),
        any::<bool>().prop_map(Operation::Update),
        Just(Operation::TheirUpdate),
        len.clone().prop_map(Operation::Arrive),
        len.prop_map(Operation::ArriveThere),
        Just(Operation::Rest),
    ]
}

struct World {
    pair: Pair,
    is_tls13: bool,
    /// Bytes under way to our end and to theirs, and the data that are expected there.
    to_ours: (Vec<u8>, Vec<u8>),
    to_theirs: (Vec<u8>, Vec<u8>),
    byte: u8,
}

impl World {
    fn perform(&mut self, operation: &Operation) {
        match *operation {
            Operation::Send(len) => {
                let data = self.data(len);
                self.pair.ours.send(&data, &mut self.to_theirs.0).unwrap();
                self.to_theirs.1.extend(data);
            }
            Operation::TheirSend(len) => {
                let data = self.data(len);
                self.pair.theirs.writer().write_all(&data).unwrap();
                self.to_ours.0.extend(written(&mut self.pair.theirs));
                self.to_ours.1.extend(data);
            }
            Operation::Update(and_peers) => {
                assert_eq!(self.pair.ours.update_keys(and_peers), self.is_tls13);
            }
            Operation::TheirUpdate if self.is_tls13 => {
                self.pair.theirs.refresh_traffic_keys().unwrap();
                self.to_ours.0.extend(written(&mut self.pair.theirs));
            }
            Operation::TheirUpdate => {}
            Operation::Arrive(count) => self.arrive(count),
            Operation::ArriveThere(count) => self.arrive_there(count),
            Operation::Rest => self.pair.ours.rest(),
        }
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        self.byte = self.byte.wrapping_add(1);
        vec![self.byte; len]
    }

    fn arrive(&mut self, count: usize) {
        let count = count.min(self.to_ours.0.len());
        let bytes: Vec<_> = self.to_ours.0.drain(..count).collect();
        let (data, last) = receive(&mut self.pair.ours, &bytes, usize::MAX);
        assert_eq!(last, None);
        assert!(self.to_ours.1.drain(..data.len()).eq(data));
    }

    fn arrive_there(&mut self, count: usize) {
        let count = count.min(self.to_theirs.0.len());
        let bytes: Vec<_> = self.to_theirs.0.drain(..count).collect();
        let data = read(&mut self.pair.theirs, &bytes).unwrap();
        assert!(self.to_theirs.1.drain(..data.len()).eq(data));
        self.to_ours.0.extend(written(&mut self.pair.theirs));
    }

    /// All that is left arrives, answers to KeyUpdate too.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.pair.ours.poll_transmit(&mut self.to_theirs.0);
            self.arrive_there(usize::MAX);
            self.arrive(usize::MAX);
        }
        let left = [&self.to_ours.0, &self.to_ours.1, &self.to_theirs.0, &self.to_theirs.1].map(Vec::len);
        assert_eq!(left, [0; 4]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn data_arrive_in_any_order_of_operations(
        at in 0..suites().len(),
        side in 0..2_usize,
        // Fewer than the KeyUpdates in a row that either end takes.
        operations in prop::collection::vec(operation(), 0..30),
    ) {
        let suite = suites()[at];
        let pair = pair(SIDES[side], suite);
        let (is_tls13, nothing) = (suite.tls13().is_some(), || (Vec::new(), Vec::new()));
        let mut world = World { pair, is_tls13, to_ours: nothing(), to_theirs: nothing(), byte: 0 };
        operations.iter().for_each(|operation| world.perform(operation));
        world.settle();
    }
}
