//! What is said to the port mapper.

use megaphone_proto::dist::epmd::{Answer, answer, register};

#[test]
fn a_hidden_node_of_one_version_of_the_handshake_is_registered() {
    let request = b"\x00\x10\x78\x13\x88\x48\x00\x00\x06\x00\x06\x00\x03ecm\x00\x00";
    assert_eq!(register("ecm", 5000), request);
}

#[test]
fn answers_are_whole_or_awaited() {
    let answers: [(&[u8], Answer); 10] = [
        (b"", Answer::Incomplete),
        (b"v", Answer::Incomplete),
        (b"v\x00\x00\x00\x00", Answer::Incomplete),
        (b"v\x00\x00\x00\x00\x01", Answer::Registered),
        (b"v\x00\x00\x00\x00\x01\x01", Answer::Unknown),
        (b"y\x00\x00", Answer::Incomplete),
        (b"y\x00\x00\x01", Answer::Registered),
        (b"y\x01", Answer::Refused),
        (b"v\x01\x00\x00\x00\x63", Answer::Refused),
        (b"HTTP/1", Answer::Unknown),
    ];
    for (received, expected) in answers {
        assert_eq!(answer(received), expected, "{received:?}");
    }
}
