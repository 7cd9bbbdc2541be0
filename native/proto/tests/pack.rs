//! Packed states: equal when they come back, small, and bounded whatever the bytes are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use megaphone_proto::pack::{Dictionaries, KINDS, MAX_DICTIONARIES, MAX_STATE, UnpackError};
use proptest::collection::vec;
use proptest::prelude::*;

/// A state as a session has one: much that all have, and a name.
fn state(user: usize) -> Vec<u8> {
    let fields: String = (0..80).map(|field| format!("field_{field}:{};", field * field * 7919)).collect();
    format!("user{user}@example.org/{}|{fields}", user.wrapping_mul(2_654_435_761)).into_bytes()
}

/// Bytes that repeat nowhere.
fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn states_of_a_kind_share_a_dictionary() {
    let dictionaries = Dictionaries::new();
    for user in 0..100 {
        let state = state(user);
        let packed = dictionaries.pack(0, &state).unwrap();
        assert!(packed.len() < 80, "{} bytes of {}", packed.len(), state.len());
        assert_eq!(dictionaries.unpack(&packed), Ok(state));
    }
    assert_eq!(dictionaries.count(), 1);
}

#[test]
fn states_of_another_sort_get_a_dictionary_and_old_packed_ones_stay_readable() {
    let dictionaries = Dictionaries::new();
    let before = dictionaries.pack(0, &state(1)).unwrap();
    let other = noise(3000, 1);
    let packed = dictionaries.pack(0, &other).unwrap();
    assert!(packed.len() < 50);
    assert_eq!(dictionaries.count(), 2);
    assert_eq!(dictionaries.unpack(&packed), Ok(other));
    assert_eq!(dictionaries.unpack(&before), Ok(state(1)));
}

#[test]
fn dictionaries_are_bounded_and_what_does_not_pack_is_left() {
    let dictionaries = Dictionaries::new();
    for seed in 0..100 {
        for kind in 0..KINDS {
            let _ = dictionaries.pack(kind, &noise(3000, seed * 10 + u64::from(kind)));
        }
    }
    assert_eq!(dictionaries.count(), MAX_DICTIONARIES);
    assert_eq!(dictionaries.pack(0, &noise(3000, 12_345)), None);
}

#[test]
fn what_cannot_be_packed_is_left() {
    let dictionaries = Dictionaries::new();
    assert_eq!(dictionaries.pack(0, &[]), None);
    assert_eq!(dictionaries.pack(KINDS, &state(1)), None);
    assert_eq!(dictionaries.pack(0, &vec![0; MAX_STATE + 1]), None);
    assert_eq!(dictionaries.count(), 0);
    let largest = vec![0; MAX_STATE];
    assert_eq!(dictionaries.unpack(&dictionaries.pack(0, &largest).unwrap()), Ok(largest));
}

#[test]
fn threads_that_pack_at_once_agree() {
    let dictionaries = Dictionaries::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let dictionaries = &dictionaries;
            scope.spawn(move || {
                for user in 0..500 {
                    let state = state(user * 4 + thread);
                    let packed = dictionaries.pack(1, &state).unwrap();
                    assert_eq!(dictionaries.unpack(&packed), Ok(state));
                }
            });
        }
    });
    assert_eq!(dictionaries.count(), 1);
}

proptest! {
    #[test]
    fn comes_back_equal(states in vec((0..KINDS, vec(any::<u8>(), 0..600), 1usize..20), 1..20)) {
        let dictionaries = Dictionaries::new();
        for (kind, part, times) in states {
            let state = part.repeat(times);
            if let Some(packed) = dictionaries.pack(kind, &state) {
                prop_assert!(packed[0] != 0);
                prop_assert!(packed.len() * 3 <= state.len() * 2);
                prop_assert_eq!(dictionaries.unpack(&packed), Ok(state));
            }
        }
    }

    #[test]
    fn any_bytes_are_unpacked_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        let dictionaries = Dictionaries::new();
        let _ = dictionaries.pack(0, &state(1));
        if bytes.first().is_none_or(|number| *number != 1) {
            prop_assert!(dictionaries.unpack(&bytes).is_err());
        } else if let Ok(state) = dictionaries.unpack(&bytes) {
            prop_assert!(state.len() <= usize::from(u16::MAX));
        }
    }

    #[test]
    fn a_damaged_state_never_has_another_length(at in 0usize..60, to in any::<u8>()) {
        let dictionaries = Dictionaries::new();
        let _ = dictionaries.pack(0, &state(1));
        let mut packed = dictionaries.pack(0, &state(2)).unwrap();
        let at = at % packed.len();
        packed[at] = to;
        let told = usize::from(u16::from_le_bytes([packed[1], packed[2]]));
        match dictionaries.unpack(&packed) {
            Ok(state) => prop_assert_eq!(state.len(), told),
            Err(error) => prop_assert!(error != UnpackError::Short),
        }
    }
}
