//! Connections with one end of ours and one of rustls', whose handshake is through.

use megaphone_proto::tls::{Established, Event, Handshake, Records, Side};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};
use std::io::{Read, Write};
use std::sync::Arc;

pub(crate) const SIDES: [Side; 2] = [Side::Server, Side::Client];

/// An established connection.
pub(crate) struct Pair {
    pub(crate) ours: Records,
    pub(crate) theirs: Connection,
    pub(crate) established: Facts,
}

/// What our handshake said besides.
pub(crate) struct Facts {
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) is_resumed: bool,
}

/// Every suite of rustls', TLS 1.3 first.
pub(crate) fn suites() -> &'static [SupportedCipherSuite] {
    aws_lc_rs::ALL_CIPHER_SUITES
}

pub(crate) fn tls13() -> impl Iterator<Item = SupportedCipherSuite> {
    suites().iter().copied().filter(|suite| suite.tls13().is_some())
}

pub(crate) fn tls12() -> impl Iterator<Item = SupportedCipherSuite> {
    suites().iter().copied().filter(|suite| suite.tls13().is_none())
}

/// The certificate's and the key's PEM that go with a suite.
fn pem(suite: SupportedCipherSuite) -> (&'static [u8], &'static [u8]) {
    if format!("{suite:?}").contains("RSA") {
        (include_bytes!("data/rsa.crt"), include_bytes!("data/rsa.key"))
    } else {
        (include_bytes!("data/ecdsa.crt"), include_bytes!("data/ecdsa.key"))
    }
}

fn provider(suite: SupportedCipherSuite) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() })
}

pub(crate) fn server_config(suite: SupportedCipherSuite) -> ServerConfig {
    let (certificate, key) = pem(suite);
    let mut config = ServerConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate).unwrap()],
            PrivateKeyDer::from_pem_slice(key).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"xmpp-client".to_vec()];
    config
}

pub(crate) fn client_config(suite: SupportedCipherSuite) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem(suite).0).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"xmpp-client".to_vec()];
    config
}

pub(crate) fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Bytes that rustls has to write.
pub(crate) fn written(connection: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Lets rustls read all of `bytes`, and gives back the data that came.
pub(crate) fn read(connection: &mut Connection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut data = Vec::new();
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes).unwrap();
        let state = connection.process_new_packets()?;
        let start = data.len();
        data.resize(start + state.plaintext_bytes_to_read(), 0);
        connection.reader().read_exact(&mut data[start..]).unwrap();
    }
    Ok(data)
}

/// What our end makes of bytes that come in pieces of at most so many.
pub(crate) fn receive(records: &mut Records, bytes: &[u8], piece: usize) -> (Vec<u8>, Option<String>) {
    let mut data = Vec::new();
    let mut last = None;
    for piece in bytes.to_vec().chunks_mut(piece.max(1)) {
        let mut input = &mut *piece;
        while let Some(event) = records.handle_input(&mut input) {
            assert!(last.is_none(), "an event after the last");
            match event {
                Event::Data(part) => data.extend_from_slice(part),
                event => last = Some(format!("{event:?}")),
            }
        }
        assert!(input.is_empty());
    }
    (data, last)
}

/// All that our end has to write.
pub(crate) fn transmitted(records: &mut Records) -> Vec<u8> {
    let mut out = Vec::new();
    records.poll_transmit(&mut out);
    out
}

pub(crate) fn sealed(records: &mut Records, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    records.send(data, &mut out).unwrap();
    out
}

/// Runs a handshake; what rustls sends behind its last message comes along with it.
fn shake<C: megaphone_proto::tls::Endpoint>(
    mut ours: Handshake<C>,
    theirs: &mut Connection,
    piece: usize,
) -> (Established, Vec<u8>) {
    let mut left = Vec::new();
    for _ in 0..20 {
        let mut out = Vec::new();
        ours.poll_transmit(&mut out);
        assert_eq!(read(theirs, &out).unwrap(), b"");
        left.extend(written(theirs));
        for piece in std::mem::take(&mut left).chunks(piece) {
            let mut input = piece;
            ours.handle_input(&mut input).unwrap();
            left.extend_from_slice(input);
        }
        if ours.is_complete() && !theirs.is_handshaking() {
            let mut out = Vec::new();
            ours.poll_transmit(&mut out);
            assert_eq!(read(theirs, &out).unwrap(), b"");
            return (ours.finish().unwrap(), left);
        }
    }
    panic!("no end of the handshake");
}

/// The same, with configurations, the bytes that are left behind the handshake, and data that rustls sends as early as it may.
pub(crate) fn connect(
    side: Side,
    server: ServerConfig,
    client: ClientConfig,
    early: &[u8],
    piece: usize,
) -> (Pair, Vec<u8>) {
    let (established, theirs, left) = match side {
        Side::Server => {
            let client = ClientConnection::new(Arc::new(client), localhost()).unwrap();
            let mut theirs = Connection::Client(client);
            theirs.writer().write_all(early).unwrap();
            let (established, left) = shake(Handshake::accept(&server).unwrap(), &mut theirs, piece);
            (established, theirs, left)
        }
        Side::Client => {
            let mut theirs = Connection::Server(ServerConnection::new(Arc::new(server)).unwrap());
            theirs.writer().write_all(early).unwrap();
            let ours = Handshake::connect(&client, localhost()).unwrap();
            let (established, left) = shake(ours, &mut theirs, piece);
            (established, theirs, left)
        }
    };
    let Established { records, alpn, server_name, is_resumed, .. } = established;
    (Pair { ours: records, theirs, established: Facts { alpn, server_name, is_resumed } }, left)
}

/// A connection of this suite, with our end at this side.
pub(crate) fn pair(side: Side, suite: SupportedCipherSuite) -> Pair {
    let (mut pair, left) = connect(side, server_config(suite), client_config(suite), b"", usize::MAX);
    // A server's tickets.
    assert_eq!(receive(&mut pair.ours, &left, usize::MAX), (vec![], None));
    pair
}
