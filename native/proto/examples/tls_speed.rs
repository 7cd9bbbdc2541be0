//! What a TLS record costs here and in rustls, what a connection holds, and what it takes to wake one up.
//!
//! `cargo run --release -p megaphone-proto --features tls --example tls_speed`
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use megaphone_proto::tls::{Event, Handshake, Records};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedCipherSuite};
use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

const ROUNDS: usize = 9;

fn main() {
    println!("size_of Records: {} bytes, no heap at rest", size_of::<Records>());
    println!("{:48} {:>6} {:>11} {:>11} {:>11} {:>11}", "suite", "bytes", "seal", "rustls", "open", "rustls");
    for &suite in aws_lc_rs::ALL_CIPHER_SUITES {
        if format!("{suite:?}").contains("RSA") {
            continue; // The same records as with ECDSA.
        }
        for len in [100, 16_384] {
            let (mut ours, mut theirs) = pair(suite);
            let count = if len > 1000 { 30 } else { 300 };
            let data = vec![7; len];
            let mut bytes = Vec::new();
            let [mut seal, mut their_seal, mut open, mut their_open] = [f64::MAX; 4];
            for _ in 0..ROUNDS {
                bytes.clear();
                seal = seal.min(timed(count, || seal_ours(&mut ours, &data, count, &mut bytes)).1);
                their_open = their_open.min(timed(count, || open_theirs(&mut theirs, &bytes)).1);
                bytes.clear();
                let time = timed(count, || seal_theirs(&mut theirs, &data, count, &mut bytes)).1;
                their_seal = their_seal.min(time);
                open = open.min(timed(count, || open_ours(&mut ours, &mut bytes)).1);
            }
            let name = format!("{:?}", suite.suite());
            println!("{name:48} {len:6} {seal:8.0} ns {their_seal:8.0} ns {open:8.0} ns {their_open:8.0} ns");
        }
        wake(suite);
    }
}

fn timed<T>(count: usize, work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = black_box(work());
    (result, start.elapsed().as_nanos() as f64 / count as f64)
}

fn seal_ours(records: &mut Records, data: &[u8], count: usize, out: &mut Vec<u8>) {
    (0..count).for_each(|_| records.send(data, out).unwrap());
}

fn open_ours(records: &mut Records, bytes: &mut [u8]) -> usize {
    let mut input = bytes;
    let mut total = 0;
    while let Some(event) = records.handle_input(&mut input) {
        let Event::Data(data) = event else { unreachable!("{event:?}") };
        total += data.len();
    }
    total
}

fn seal_theirs(connection: &mut ClientConnection, data: &[u8], count: usize, out: &mut Vec<u8>) {
    for _ in 0..count {
        connection.writer().write_all(data).unwrap();
        while connection.wants_write() {
            connection.write_tls(out).unwrap();
        }
    }
}

fn open_theirs(connection: &mut ClientConnection, mut bytes: &[u8]) -> usize {
    let mut buffer = vec![0; 16_384];
    let mut total = 0;
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes).unwrap();
        let mut left = connection.process_new_packets().unwrap().plaintext_bytes_to_read();
        while left > 0 {
            let count = connection.reader().read(&mut buffer).unwrap();
            total += count;
            left -= count;
        }
    }
    total
}

/// A record of 100 bytes each way, at rest between them.
fn wake(suite: SupportedCipherSuite) {
    let (mut ours, mut theirs) = pair(suite);
    let data = [7; 100];
    let (mut awake, mut woken, mut heap) = (f64::MAX, f64::MAX, 0);
    for _ in 0..ROUNDS {
        for rests in [false, true] {
            let mut records = vec![Vec::new(); 200];
            records.iter_mut().for_each(|record| seal_theirs(&mut theirs, &data, 1, record));
            let mut out = Vec::with_capacity(64 * 1024);
            let ((), time) = timed(records.len(), || {
                for record in &mut records {
                    open_ours(&mut ours, record);
                    ours.send(&data, &mut out).unwrap();
                    if rests {
                        ours.rest();
                    }
                }
            });
            open_theirs(&mut theirs, &out);
            heap = heap.max(ours.heap_bytes());
            let best = if rests { &mut woken } else { &mut awake };
            *best = best.min(time);
        }
    }
    println!(
        "    100 bytes each way: {awake:.0} ns, from rest and back {woken:.0} ns; {heap} bytes of heap while awake"
    );
}

fn pair(suite: SupportedCipherSuite) -> (Records, ClientConnection) {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("../tests/tls/data/ecdsa.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../tests/tls/data/ecdsa.key")).unwrap();
    let provider = Arc::new(CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() });
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut theirs =
        ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut ours = Handshake::accept(&server).unwrap();
    while !ours.is_complete() || theirs.is_handshaking() {
        let mut bytes = Vec::new();
        while theirs.wants_write() {
            theirs.write_tls(&mut bytes).unwrap();
        }
        ours.handle_input(&mut &bytes[..]).unwrap();
        let mut out = Vec::new();
        ours.poll_transmit(&mut out);
        open_theirs(&mut theirs, &out);
    }
    (ours.finish().unwrap().records, theirs)
}
