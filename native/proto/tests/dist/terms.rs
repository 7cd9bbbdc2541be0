//! Terms, as `erlang:term_to_binary/1` makes them.

use megaphone_proto::dist::{Term, Writer};
use proptest::prelude::*;

fn term(mut bytes: &[u8]) -> Option<Term<'_>> {
    Term::take(&mut bytes).filter(|_| bytes.is_empty())
}

/// Each kind: numbers, atoms of all four tags, binaries, lists, maps, tuples, identifiers old and new, functions.
const KINDS: [&[u8]; 34] = [
    b"\x61\x01",
    b"\x62\xff\xff\xff\xff",
    b"\x6e\x06\x00\x00\x00\x00\x00\x00\x01",
    b"\x6f\x00\x00\x00\x02\x00\x01\x02",
    b"\x46\x40\x04\x00\x00\x00\x00\x00\x00",
    b"\x632.50000000000000000000e+00\x00\x00\x00\x00\x00",
    b"\x64\x00\x01a",
    b"\x73\x01a",
    b"\x76\x00\x02\xc4\xac",
    b"\x77\x01a",
    b"\x6b\x00\x03str",
    b"\x6a",
    b"\x6c\x00\x00\x00\x02\x61\x01\x77\x01x\x77\x01y",
    b"\x6c\x00\x00\x00\x01\x61\x01\x6a",
    b"\x6d\x00\x00\x00\x01b",
    b"\x4d\x00\x00\x00\x01\x03\x20",
    b"\x74\x00\x00\x00\x01\x77\x01a\x61\x01",
    b"\x74\x00\x00\x00\x00",
    b"\x68\x00",
    b"\x68\x02\x6a\x68\x01\x6a",
    b"\x69\x00\x00\x00\x01\x6a",
    b"\x58\x77\x01n\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x67\x64\x00\x01n\x00\x00\x00\x09\x00\x00\x00\x00\x00",
    b"\x59\x77\x01n\x00\x00\x00\x09\x00\x00\x00\x00",
    b"\x66\x77\x01n\x00\x00\x00\x09\x00",
    b"\x78\x76\x00\x01n\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00",
    b"\x5a\x00\x02\x77\x01n\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03",
    b"\x72\x00\x01\x77\x01n\x01\x00\x00\x00\x02",
    b"\x65\x77\x01n\x00\x00\x00\x02\x00",
    b"\x71\x77\x01m\x77\x01f\x61\x02",
    b"\x70\x00\x00\x00\x06ab",
    b"\x74\x00\x00\x00\x01\x6a\x68\x01\x6c\x00\x00\x00\x01\x6a\x6a",
    b"\x68\x03\x61\x01\x77\x01a\x6d\x00\x00\x00\x00",
    b"\x68\x02\x68\x02\x77\x00\x77\x00\x77\x00",
];

#[test]
fn every_kind_ends_where_it_ends() {
    for bytes in KINDS {
        assert_eq!(term(bytes).map(Term::bytes), Some(bytes), "{bytes:?}");
        for length in 0..bytes.len() {
            assert_eq!(term(&bytes[..length]), None, "{bytes:?} up to {length}");
        }
        let mut more = &[bytes, b"rest"].concat()[..];
        assert!(Term::take(&mut more).is_some());
        assert_eq!(more, b"rest");
    }
}

#[test]
fn what_was_not_agreed_on_is_no_term() {
    // Compressed, from the atom cache, local, a function of before OTP 23, a fun that is shorter than its own length.
    for bytes in [
        &b"\x50\x00\x00\x00\x01x"[..],
        b"\x52\x00",
        b"\x79x",
        b"\x75\x00\x00\x00\x00",
        b"\x70\x00\x00\x00\x03",
    ] {
        assert_eq!(term(bytes), None);
    }
}

#[test]
fn counts_beyond_the_bytes_are_no_terms_and_depth_costs_nothing() {
    for bytes in [
        &b"\x6c\xff\xff\xff\xff"[..],
        b"\x74\xff\xff\xff\xff",
        b"\x69\xff\xff\xff\xff",
        b"\x6f\xff\xff\xff\xff\x00",
    ] {
        assert_eq!(term(&[bytes, &[0x6a; 100]].concat()), None);
    }
    let deep = [&[0x68, 1].repeat(1_000_000)[..], &[0x6a]].concat();
    assert!(term(&deep).is_some());
}

#[test]
fn terms_are_looked_into() {
    assert_eq!(term(b"\x77\x02ab").unwrap().atom(), Some("ab"));
    assert_eq!(term(b"\x64\x00\x01\xe4").unwrap().atom(), None);
    assert_eq!(term(b"\x62\xff\xff\xff\xff").unwrap().unsigned(), None);
    assert_eq!(term(b"\x6e\x01\x01\x05").unwrap().unsigned(), None);
    assert_eq!(term(b"\x68\x01\x61\x05").unwrap().tuple().map(|[five]| five.unsigned()), Some(Some(5)));
    assert_eq!(term(b"\x68\x01\x61\x05").unwrap().tuple::<2>(), None);
    assert_eq!(term(b"\x68\x00").unwrap().first(), None);
    let (head, tail) = term(b"\x6c\x00\x00\x00\x01\x61\x05\x61\x06").unwrap().cons().unwrap();
    assert_eq!((head.unsigned(), tail.and_then(Term::unsigned)), (Some(5), Some(6)));
    assert_eq!(term(b"\x6c\x00\x00\x00\x01\x61\x05\x6a").unwrap().cons().map(|(_, tail)| tail), Some(None));
}

proptest! {
    #[test]
    fn integers_come_back(value in any::<u64>(), bits in 0u32..64) {
        let value = value >> bits;
        let mut written = Vec::new();
        Writer::new(&mut written).unsigned(value);
        prop_assert_eq!(term(&written).and_then(Term::unsigned), Some(value));
    }

    #[test]
    fn texts_come_back(text in "\\PC{0,300}") {
        let mut written = Vec::new();
        Writer::new(&mut written).atom(&text);
        let atom = term(&written).and_then(Term::atom).unwrap();
        prop_assert!(text.starts_with(atom) && (atom.len() > 251 || atom == text));
    }

    #[test]
    fn any_bytes_are_a_term_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut rest = bytes.as_slice();
        if let Some(term) = Term::take(&mut rest) {
            prop_assert_eq!(&[term.bytes(), rest].concat(), &bytes);
            let _ = (term.atom(), term.unsigned(), term.first(), term.cons(), term.tuple::<2>());
        }
    }
}
