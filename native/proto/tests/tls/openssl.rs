//! Against OpenSSL's own client and server, over loopback. Where there is no `openssl`, nothing is tested.

use crate::ends::{client_config, localhost, server_config, suites};
use megaphone_proto::tls::{ChannelBinding, Endpoint, Event, Handshake, Records, Side};
use rustls::SupportedCipherSuite;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An openssl process, and what it has said.
struct OpenSsl {
    child: Child,
    stdin: ChildStdin,
    said: Arc<(Mutex<String>, Condvar)>,
    seen: usize,
}

impl OpenSsl {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new((Mutex::new(String::new()), Condvar::new()));
        listen(child.stdout.take().unwrap(), said.clone());
        listen(child.stderr.take().unwrap(), said.clone());
        let stdin = child.stdin.take().unwrap();
        Self { child, stdin, said, seen: 0 }
    }

    fn say(&mut self, line: &str) {
        // One write: what it reads at once is one command, or data.
        self.stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for a line with these words, behind those that were waited for before.
    fn hear(&mut self, words: &str) -> String {
        let (said, heard) = &*self.said;
        let mut said = said.lock().unwrap();
        loop {
            if let Some(at) = said[self.seen..].find(words) {
                let line = said[self.seen + at..].lines().next().unwrap().to_owned();
                self.seen += at + words.len();
                return line;
            }
            let (next, timeout) = heard.wait_timeout(said, PATIENCE).unwrap();
            said = next;
            assert!(!timeout.timed_out(), "no {words:?} in {said}");
        }
    }

    /// How often it said so.
    fn count(&self, words: &str) -> usize {
        self.said.0.lock().unwrap().matches(words).count()
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn listen(output: impl Read + Send + 'static, said: Arc<(Mutex<String>, Condvar)>) {
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let mut text = said.0.lock().unwrap();
            text.push_str(&String::from_utf8_lossy(&line));
            text.push('\n');
            said.1.notify_all();
        }
    });
}

fn has_openssl() -> bool {
    Command::new("openssl").arg("version").output().is_ok()
}

/// The version's and the suite's arguments.
fn arguments(suite: SupportedCipherSuite) -> [&'static str; 3] {
    let name = format!("{:?}", suite.suite());
    let find = |names: &[(&str, &'static str)]| {
        names.iter().find(|(ours, _)| *ours == name).map(|(_, theirs)| *theirs).unwrap()
    };
    if suite.tls13().is_some() {
        let names = [
            ("TLS13_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
            ("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
            ("TLS13_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
        ];
        return ["-tls1_3", "-ciphersuites", find(&names)];
    }
    let names = [
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
    ];
    ["-tls1_2", "-cipher", find(&names)]
}

/// Our end over a socket.
struct Ours {
    socket: TcpStream,
    records: Records,
    left: Vec<u8>,
}

impl Ours {
    fn shake<C: Endpoint>(mut socket: TcpStream, mut handshake: Handshake<C>) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut left = Vec::new();
        loop {
            let mut out = Vec::new();
            handshake.poll_transmit(&mut out);
            socket.write_all(&out).unwrap();
            if handshake.is_complete() {
                return Self { socket, records: handshake.finish().unwrap().records, left };
            }
            left = self::read(&mut socket);
            let mut input = &left[..];
            handshake.handle_input(&mut input).unwrap();
            left = input.to_vec();
        }
    }

    /// Waits for a line, or the peer's close.
    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            let mut bytes = std::mem::take(&mut self.left);
            let mut input = &mut bytes[..];
            while let Some(event) = self.records.handle_input(&mut input) {
                match event {
                    Event::Data(data) => line.extend_from_slice(data),
                    Event::Closed => return None,
                    Event::Failed(error) => panic!("{error}"),
                }
            }
            self.flush();
            if line.ends_with(b"\n") {
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            self.left = read(&mut self.socket);
        }
    }

    fn flush(&mut self) {
        let mut out = Vec::new();
        self.records.poll_transmit(&mut out);
        self.socket.write_all(&out).unwrap();
    }

    fn say(&mut self, line: &str) {
        let mut out = Vec::new();
        self.records.send(format!("{line}\n").as_bytes(), &mut out).unwrap();
        self.socket.write_all(&out).unwrap();
    }
}

fn read(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let count = socket.read(&mut bytes).unwrap();
    assert_ne!(count, 0, "the end of the carrier without one of TLS");
    bytes.truncate(count);
    bytes
}

/// An `s_client` and our server.
fn client(suite: SupportedCipherSuite, more: &[&str]) -> (OpenSsl, Ours) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut all = vec!["s_client", "-connect", &address, "-servername", "localhost", "-msg"];
    all.extend(arguments(suite));
    all.extend(more);
    let openssl = OpenSsl::start(&all);
    let handshake = Handshake::accept(&server_config(suite)).unwrap();
    (openssl, Ours::shake(listener.accept().unwrap().0, handshake))
}

/// An `s_server` and our client.
fn server(suite: SupportedCipherSuite) -> (OpenSsl, Ours) {
    let kind = if format!("{suite:?}").contains("RSA") { "rsa" } else { "ecdsa" };
    let file = |ending| format!("{}/tests/tls/data/{kind}.{ending}", env!("CARGO_MANIFEST_DIR"));
    let (certificate, key) = (file("crt"), file("key"));
    let mut all = vec!["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-msg"];
    all.extend(["-cert", &certificate, "-key", &key]);
    all.extend(arguments(suite));
    let mut openssl = OpenSsl::start(&all);
    let address = openssl.hear("ACCEPT ").split_off("ACCEPT ".len());
    let handshake = Handshake::connect(&client_config(suite), localhost()).unwrap();
    (openssl, Ours::shake(TcpStream::connect(address).unwrap(), handshake))
}

fn talk(openssl: &mut OpenSsl, ours: &mut Ours, round: usize) {
    openssl.say(&format!("hello {round}"));
    assert_eq!(ours.line().unwrap(), format!("hello {round}"));
    ours.say(&format!("answer {round}"));
    openssl.hear(&format!("answer {round}"));
}

#[test]
fn every_suite_talks_with_openssl() {
    if !has_openssl() {
        return;
    }
    for &suite in suites() {
        for side in [Side::Server, Side::Client] {
            let (mut openssl, mut ours) = match side {
                Side::Server => client(suite, &[]),
                Side::Client => server(suite),
            };
            talk(&mut openssl, &mut ours, 1);
            // More than its buffer, in full records.
            let long = "x".repeat(100_000);
            ours.say(&long);
            openssl.hear("xxx\n");
            talk(&mut openssl, &mut ours, 2);
            // Its server leaves without close_notify.
            if side == Side::Server {
                openssl.say("Q");
                assert_eq!(ours.line(), None, "closed by {suite:?}");
            }
            ours.records.close();
            ours.flush();
            if side == Side::Client {
                openssl.hear("warning close_notify");
            }
        }
    }
}

#[test]
fn keys_are_updated_with_openssl() {
    if !has_openssl() {
        return;
    }
    for &suite in suites().iter().filter(|suite| suite.tls13().is_some()) {
        for side in [Side::Server, Side::Client] {
            let (mut openssl, mut ours) = match side {
                Side::Server => client(suite, &[]),
                Side::Client => server(suite),
            };
            talk(&mut openssl, &mut ours, 0);
            for (round, command) in ["k", "K", "K", "k"].into_iter().enumerate() {
                openssl.say(command);
                // A server writes its update at once, a client with what is said next.
                openssl.hear(match side {
                    Side::Server => "KEYUPDATE",
                    Side::Client => ">>> TLS 1.3, Handshake [length 0005], KeyUpdate",
                });
                ours.records.update_keys(round % 2 == 0);
                ours.flush();
                talk(&mut openssl, &mut ours, 2 * round + 1);
                talk(&mut openssl, &mut ours, 2 * round + 2);
            }
            // Its four, ours four, and our two answers, of which each may be one with our own.
            assert!(openssl.count("KeyUpdate") >= 8, "{}", openssl.count("KeyUpdate"));
        }
    }
}

/// The body of the first Finished message that `-msg` shows.
fn finished(openssl: &mut OpenSsl) -> Vec<u8> {
    openssl.hear("Finished");
    let dump = openssl.hear("14 00 00 0c");
    dump.split_whitespace().skip(4).take(12).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn channel_binding_is_what_openssl_has() {
    if !has_openssl() {
        return;
    }
    for &suite in suites() {
        let exporter = ["-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32"];
        let (mut openssl, mut ours) = client(suite, &exporter);
        match ours.records.channel_binding().unwrap() {
            ChannelBinding::Unique(value) => assert_eq!(value[..], finished(&mut openssl)),
            ChannelBinding::Exporter(value) => {
                let value: String = value.iter().map(|byte| format!("{byte:02X}")).collect();
                assert!(openssl.hear("Keying material: ").ends_with(&value));
            }
        }
        talk(&mut openssl, &mut ours, 1);
    }
}

#[test]
fn renegotiation_is_refused_with_a_warning() {
    if !has_openssl() {
        return;
    }
    let suite = *suites().iter().find(|suite| suite.tls13().is_none()).unwrap();
    let (mut openssl, mut ours) = client(suite, &[]);
    talk(&mut openssl, &mut ours, 1);
    openssl.say("R");
    openssl.hear("RENEGOTIATING");
    let (records, socket) = (&mut ours.records, &mut ours.socket);
    while !records.wants_to_transmit() {
        let mut bytes = read(socket);
        let mut input = &mut bytes[..];
        assert_eq!(records.handle_input(&mut input), None);
    }
    ours.flush();
    openssl.hear("no_renegotiation");
}
