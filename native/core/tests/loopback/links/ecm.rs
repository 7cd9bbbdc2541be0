//! A connection manager for tests: the protocol's other end over a real socket, with clients that are buffers.

use crate::common::*;
use megaphone_core::link::{
    Cause, Config, Dial, Dialer, End, Event, Failure, GoAway, Link, LinkId, Open, Reason, Secret, Side,
};
use megaphone_core::{LinkListenerConfig, proxy_header};
use megaphone_proto::time::Time;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const SECRET: [u8; 32] = [7; 32];
pub(crate) const CLIENT: &str = "192.0.2.7:4711";
pub(crate) const LOCAL: &str = "198.51.100.1:5222";

pub(crate) fn settings(name: &str, secret: &[u8]) -> Config {
    Config::new(name, Secret::new(secret).unwrap())
}

/// Settings of a node's link listener.
pub(crate) fn node_config() -> LinkListenerConfig {
    LinkListenerConfig::new(Arc::new(settings("node@test", &SECRET)))
}

impl Node {
    pub(crate) fn listen_links(&self, config: LinkListenerConfig) -> Port {
        let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = socket.local_addr().unwrap();
        Port { id: self.system.listen_links(socket.into(), config).expect("listen_links"), address }
    }
}

/// A client of the connection manager.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// What the node has sent to it.
    pub(crate) received: Vec<u8>,
    /// The node has sent all.
    pub(crate) is_ended: bool,
    /// The node has taken leave.
    pub(crate) left: Option<Reason>,
    to_send: Vec<u8>,
}

pub(crate) struct Ecm {
    config: Arc<Config>,
    id: LinkId,
    pub(crate) link: Link,
    pub(crate) socket: Option<TcpStream>,
    start: Instant,
    clients: HashMap<u32, Client>,
    pub(crate) goes_away: Option<GoAway>,
    pub(crate) lost: Option<Cause>,
    /// Clients read what comes.
    pub(crate) reads: bool,
}

/// A number that no other link of the test has.
fn new_id() -> LinkId {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    LinkId(id)
}

fn now(start: Instant) -> Time {
    Time::from_ticks((start.elapsed().as_millis() / Time::TICK.as_millis()) as u32 + 1)
}

/// What a handshake comes to.
fn shake(
    config: &Arc<Config>,
    (id, attempt, received): (LinkId, u32, u64),
    port: Port,
    start: Instant,
) -> Result<(TcpStream, megaphone_core::link::Welcome, Vec<u8>), Failure> {
    let mut socket = port.connect();
    let dial = Dial { to: "", link: id, attempt, received, nonce: [attempt as u8; 32], binding: b"" };
    let mut dialer = Dialer::new(Arc::clone(config), dial, now(start));
    let mut buffer = [0; 4096];
    loop {
        let mut out = Vec::new();
        dialer.poll_transmit(&mut out);
        socket.write_all(&out).unwrap();
        let n = socket.read(&mut buffer).expect("an answer");
        assert!(n > 0, "closed without an answer");
        let mut rest = &buffer[..n];
        if let Some(welcome) = dialer.handle_input(&mut rest)? {
            return Ok((socket, welcome, rest.to_vec()));
        }
    }
}

impl Ecm {
    #[track_caller]
    pub(crate) fn dial(port: Port) -> Self {
        Self::try_dial(port, settings("ecm", &SECRET)).expect("a welcome")
    }

    pub(crate) fn try_dial(port: Port, config: Config) -> Result<Self, Failure> {
        let (config, id, start) = (Arc::new(config), new_id(), Instant::now());
        let (socket, welcome, rest) = shake(&config, (id, 0, 0), port, start)?;
        let link = Link::new(Arc::clone(&config), Side::Ecm, welcome.params, now(start));
        let mut ecm = Self {
            config,
            id,
            link,
            socket: Some(socket),
            start,
            clients: HashMap::new(),
            goes_away: None,
            lost: None,
            reads: true,
        };
        ecm.take(&rest);
        Ok(ecm)
    }

    pub(crate) fn now(&self) -> Time {
        now(self.start)
    }

    /// The connection is gone, without a word.
    pub(crate) fn cut(&mut self) {
        let now = self.now();
        self.socket = None;
        self.link.handle_disconnect(now);
    }

    /// Another connection for the link.
    pub(crate) fn resume(&mut self, port: Port) -> Result<(), Failure> {
        let attempt = self.link.next_attempt();
        self.resume_as(port, attempt, &Arc::clone(&self.config))
    }

    pub(crate) fn resume_as(
        &mut self,
        port: Port,
        attempt: u32,
        config: &Arc<Config>,
    ) -> Result<(), Failure> {
        let (socket, welcome, rest) =
            shake(config, (self.id, attempt, self.link.received()), port, self.start)?;
        let now = self.now();
        self.link.resume(attempt, welcome.received.expect("a link that is resumed"), now).expect("resume");
        self.socket = Some(socket);
        self.take(&rest);
        Ok(())
    }

    /// A client connects, to this listener of the node.
    #[track_caller]
    pub(crate) fn open(&mut self, listener: &str) -> u32 {
        let address = |text: &str| proxy_header::Address::Ip(text.parse::<SocketAddr>().unwrap());
        let open =
            Open { listener: listener.into(), client: address(CLIENT), local: address(LOCAL), via: None };
        let number = self.link.open(&open).expect("open");
        self.clients.insert(number, Client::default());
        self.flush();
        number
    }

    /// A client that is the only one who asks.
    pub(crate) fn client(&self, number: u32) -> &Client {
        &self.clients[&number]
    }

    /// A client sends.
    pub(crate) fn send(&mut self, number: u32, bytes: &[u8]) {
        self.clients.get_mut(&number).unwrap().to_send.extend_from_slice(bytes);
        self.link.want_to_send(number);
        self.flush();
    }

    /// Bytes of a client that wait for credit.
    pub(crate) fn unsent(&self, number: u32) -> usize {
        self.clients[&number].to_send.len()
    }

    pub(crate) fn close(&mut self, number: u32, reason: Reason) {
        self.link.close(number, reason);
        self.flush();
    }

    pub(crate) fn grant(&mut self, number: u32, bytes: u32) {
        self.link.grant(number, bytes);
        self.flush();
    }

    pub(crate) fn end(&mut self, end: End) {
        self.link.end(end);
        self.flush();
    }

    /// Bytes that are no frames of the link's machine.
    pub(crate) fn write_raw(&mut self, bytes: &[u8]) {
        self.flush();
        self.socket.as_ref().unwrap().write_all(bytes).unwrap();
    }

    fn flush(&mut self) {
        while let Some((number, most)) = self.link.poll_ready() {
            let client = self.clients.get_mut(&number).unwrap();
            let n = most.min(client.to_send.len());
            if n > 0 {
                let bytes: Vec<u8> = client.to_send.drain(..n).collect();
                self.link.send_data(number, &bytes).expect("send_data");
                self.link.want_to_send(number);
            }
        }
        let Some(socket) = &mut self.socket else { return };
        loop {
            let bytes = self.link.poll_transmit().concat();
            if bytes.is_empty() || socket.write_all(&bytes).is_err() {
                return;
            }
            self.link.written(bytes.len());
        }
    }

    fn take(&mut self, mut input: &[u8]) {
        let now = self.now();
        while let Some(event) = self.link.handle_input(&mut input, now) {
            match event {
                Event::Data(number, bytes) => {
                    self.clients.get_mut(&number).unwrap().received.extend_from_slice(bytes);
                    if self.reads {
                        self.link.grant(number, bytes.len() as u32);
                    }
                }
                Event::Eof(number) => self.clients.get_mut(&number).unwrap().is_ended = true,
                Event::Closed(number, reason) => {
                    let client = self.clients.get_mut(&number).unwrap();
                    client.left = Some(reason);
                    self.link.close(number, Reason::Closed);
                }
                Event::GoAway(reason) => self.goes_away = Some(reason),
                Event::Lost(cause) => self.lost = Some(cause),
                Event::Opened(..) | Event::Suspended | Event::Resumed => {}
            }
        }
    }

    /// Does what there is to do, or waits a moment for something to come.
    pub(crate) fn turn(&mut self) {
        let now = self.now();
        if self.link.poll_timeout().is_some_and(|at| at <= now) {
            self.link.handle_timeout(now);
        }
        self.flush();
        let Some(socket) = &mut self.socket else { return };
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let mut buffer = vec![0; 65536];
        match socket.read(&mut buffer) {
            Ok(0) => {
                self.socket = None;
                self.link.handle_disconnect(now);
            }
            Ok(n) => self.take(&buffer[..n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => {
                self.socket = None;
                self.link.handle_disconnect(now);
            }
        }
        self.flush();
    }

    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < end, "never: {what}");
            self.turn();
        }
    }

    /// What a client has received, once that is so many bytes.
    #[track_caller]
    pub(crate) fn received(&mut self, number: u32, bytes: usize) -> Vec<u8> {
        self.until("bytes for a client", |ecm| ecm.client(number).received.len() >= bytes);
        self.client(number).received.clone()
    }

    /// Why the node took leave of a client.
    #[track_caller]
    pub(crate) fn left(&mut self, number: u32) -> Reason {
        self.until("the node's leave", |ecm| ecm.client(number).left.is_some());
        self.client(number).left.unwrap()
    }
}
