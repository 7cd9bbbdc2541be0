//! Bytes that a TLS server gets before anything is agreed on.
//!
//! Held to be true: cut anyhow, the same result; what is kept is bounded, and so is heap memory; behind an error comes an alert or
//! nothing, and nothing more is taken.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::within_heap;
use megaphone_proto::tls::Handshake;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const MOST_HEAP: usize = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    let config = config();
    within_heap(MOST_HEAP, || {
        let Some((first, rest)) = bytes.split_first() else { return };
        assert_eq!(receive(config, rest, usize::MAX), receive(config, rest, usize::from(*first) + 1));
    });
});

fn config() -> &'static ServerConfig {
    static CONFIG: OnceLock<ServerConfig> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let certificate = include_bytes!("../../proto/tests/tls/data/ecdsa.crt");
        let key = include_bytes!("../../proto/tests/tls/data/ecdsa.key");
        ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate).expect("a certificate")],
                PrivateKeyDer::from_pem_slice(key).expect("a key"),
            )
            .expect("a key that goes with it")
    })
}

/// How far it came, how much it answered, and with what kind of record.
fn receive(config: &ServerConfig, bytes: &[u8], piece: usize) -> (usize, bool, Option<u8>) {
    let mut handshake = Handshake::accept(config).expect("a configuration");
    let (mut taken, mut out) = (0, Vec::new());
    for piece in bytes.chunks(piece) {
        let mut input = piece;
        let result = handshake.handle_input(&mut input);
        taken += piece.len() - input.len();
        assert!(handshake.kept_bytes() <= 70_000 && !handshake.is_complete());
        let before = out.len();
        handshake.poll_transmit(&mut out);
        if result.is_err() {
            // Behind a ServerHello an alert is sealed.
            assert!(out.len() == before || out[before] == 21 || before > 0 || out[0] == 22);
            assert!(handshake.handle_input(&mut &bytes[..]).is_ok() && !handshake.poll_transmit(&mut out));
            return (taken, true, out.first().copied());
        }
        assert!(input.is_empty());
    }
    (taken, false, out.first().copied())
}
