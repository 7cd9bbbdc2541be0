//! How a handshake ends, and what it leaves: resumption, small fragments, peers that don't keep to it.

use crate::ends::{
    SIDES, client_config, connect, localhost, read, receive, sealed, server_config, suites, tls12, tls13,
    written,
};
use megaphone_proto::tls::{ChannelBinding, Endpoint, Established, Handshake, HandshakeError, Side};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, SupportedCipherSuite};
use std::sync::Arc;

type Server = Handshake<UnbufferedServerConnection>;
type Client = Handshake<UnbufferedClientConnection>;

/// Moves what one of our handshakes has to write into the other; what that leaves.
fn carry<A: Endpoint, B: Endpoint>(from: &mut Handshake<A>, to: &mut Handshake<B>) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.poll_transmit(&mut bytes);
    let mut input = &bytes[..];
    to.handle_input(&mut input).unwrap();
    input.to_vec()
}

/// Both ends are ours; a server's tickets are left for the client's records.
fn both(server: &ServerConfig, client: &ClientConfig) -> (Established, Established) {
    let mut server: Server = Handshake::accept(server).unwrap();
    let mut client: Client = Handshake::connect(client, localhost()).unwrap();
    let mut left = Vec::new();
    while !(server.is_complete() && client.is_complete()) {
        assert_eq!(carry(&mut client, &mut server), b"");
        left.extend(carry(&mut server, &mut client));
    }
    let (mut client, server) = (client.finish().unwrap(), server.finish().unwrap());
    assert_eq!(receive(&mut client.records, &left, usize::MAX), (vec![], None));
    (client, server)
}

#[test]
fn both_ends_can_be_ours() {
    for &suite in suites() {
        let (mut client, mut server) = both(&server_config(suite), &client_config(suite));
        for _ in 0..3 {
            let bytes = sealed(&mut client.records, b"hello");
            assert_eq!(receive(&mut server.records, &bytes, 1), (b"hello".to_vec(), None));
            let bytes = sealed(&mut server.records, b"welcome");
            assert_eq!(receive(&mut client.records, &bytes, 1), (b"welcome".to_vec(), None));
            client.records.update_keys(true);
        }
        assert!(client.peer_certificates.is_some() && server.peer_certificates.is_none());
    }
}

#[test]
fn both_ends_have_the_same_channel_binding_and_no_other_connection() {
    for &suite in suites() {
        let mut values = Vec::new();
        for _ in 0..2 {
            let (client, server) = both(&server_config(suite), &client_config(suite));
            let value = |end: &Established| format!("{:?}", end.records.channel_binding().unwrap());
            assert_eq!(value(&client), value(&server));
            values.push(value(&client));
        }
        assert_ne!(values[0], values[1]);
    }
}

#[test]
fn the_exporter_is_rustls_own() {
    for suite in tls13() {
        for side in SIDES {
            let (pair, _) = connect(side, server_config(suite), client_config(suite), b"", usize::MAX);
            let expected =
                pair.theirs.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).unwrap();
            assert_eq!(pair.ours.channel_binding(), Some(ChannelBinding::Exporter(&expected)));
        }
    }
}

/// A configuration with tickets, of rustls' own kind.
fn with_tickets(suite: SupportedCipherSuite) -> ServerConfig {
    let mut config = server_config(suite);
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    config
}

#[test]
fn a_session_is_resumed_and_bound_to_itself() {
    for &suite in suites() {
        let (server, client) = (with_tickets(suite), client_config(suite));
        let (mut first, left) = connect(Side::Server, server.clone(), client.clone(), b"", usize::MAX);
        assert_eq!(receive(&mut first.ours, &left, usize::MAX), (vec![], None));
        let (mut second, _) = connect(Side::Server, server, client, b"", usize::MAX);
        assert!(!first.established.is_resumed && second.established.is_resumed, "{suite:?}");
        assert_eq!(second.established.server_name.as_deref(), Some("localhost"));
        assert_ne!(first.ours.channel_binding(), second.ours.channel_binding());
        let bytes = sealed(&mut second.ours, b"again");
        assert_eq!(read(&mut second.theirs, &bytes).unwrap(), b"again");
    }
}

/// The first Finished is the server's when a session is resumed: both ends must agree on which it was.
#[test]
fn the_binding_of_a_resumed_session_is_the_servers() {
    for suite in tls12() {
        let (server, client) = (with_tickets(suite), client_config(suite));
        both(&server, &client);
        let (first, second) = both(&server, &client);
        assert!(first.is_resumed && second.is_resumed);
        assert!(matches!(first.records.channel_binding(), Some(ChannelBinding::Unique(_))));
        assert_eq!(first.records.channel_binding(), second.records.channel_binding());
    }
}

#[test]
fn messages_of_the_handshake_may_be_cut_into_many_records() {
    for &suite in suites() {
        for side in SIDES {
            let (mut server, mut client) = (server_config(suite), client_config(suite));
            server.max_fragment_size = Some(64);
            client.max_fragment_size = Some(64);
            for piece in [1, 50, usize::MAX] {
                let (mut pair, left) = connect(side, server.clone(), client.clone(), b"early", piece);
                assert_eq!(receive(&mut pair.ours, &left, piece), (b"early".to_vec(), None));
            }
        }
    }
}

#[test]
fn what_is_no_handshake_gets_an_alert() {
    let suite = tls13().next().unwrap();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"<?xml version='1.0'?><stream:stream>",
        &[22, 3, 1, 255, 255, 1, 2, 3],
        &[22, 3, 1, 0, 0],
        &[22, 3, 1, 0, 4, 2, 0, 0, 0],
        &[23, 3, 3, 0, 1, 0],
    ] {
        let mut server: Server = Handshake::accept(&server_config(suite)).unwrap();
        let mut input = bytes;
        assert!(matches!(server.handle_input(&mut input), Err(HandshakeError::Rustls(_))), "{bytes:?}");
        let mut out = Vec::new();
        server.poll_transmit(&mut out);
        assert!(out.first() == Some(&21) && out.len() == 7, "{bytes:?} {out:?}");
        assert!(!server.is_complete());
        // Nothing more is taken, and nothing comes of it.
        let mut more = &[22; 100][..];
        assert!(server.handle_input(&mut more).is_ok());
        assert_eq!(more.len(), 100);
        assert!(server.finish().is_err());
    }
}

#[test]
fn a_client_that_distrusts_the_certificate_is_told_of() {
    for &suite in suites() {
        let mut server: Server = Handshake::accept(&server_config(suite)).unwrap();
        let mut config = client_config(suite);
        let trusting = config.clone();
        config = ClientConfig::builder_with_provider(trusting.crypto_provider().clone())
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), localhost()).unwrap();
        let mut client = Connection::Client(client);
        let mut error = None;
        for _ in 0..10 {
            let bytes = written(&mut client);
            let mut input = &bytes[..];
            if let Err(failure) = server.handle_input(&mut input) {
                error = Some(failure.to_string());
                break;
            }
            let mut out = Vec::new();
            server.poll_transmit(&mut out);
            drop(read(&mut client, &out));
        }
        assert!(error.as_ref().unwrap().contains("UnknownCA"), "{suite:?} {error:?}");
    }
}

/// rustls keeps a message's records until it is whole, their headers too.
#[test]
fn a_message_in_tiny_records_is_bounded() {
    let suite = tls13().next().unwrap();
    for (total, is_refused) in [(11_000, false), (60_000, true)] {
        let mut server: Server = Handshake::accept(&server_config(suite)).unwrap();
        let [.., high, low] = u32::to_be_bytes(total);
        let message = [&[1, 0, high, low][..], &vec![0; total as usize]].concat();
        let bytes: Vec<u8> =
            message[..message.len() - 1].iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
        let result = server.handle_input(&mut &bytes[..]);
        assert_eq!(result.err(), is_refused.then_some(HandshakeError::TooLong));
        assert!(server.kept_bytes() <= 70_000);
        assert!(server.handle_input(&mut &bytes[..1]).is_ok());
    }
}
