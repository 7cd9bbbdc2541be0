//! A node as the manager sees one: the node's end of the link protocol over TCP, and for each stream a service that is named by the
//! listener it is for.
//!
//! - `echo` sends back what comes, ends when the client does
//! - `describe` sends what the manager says of the client, and takes leave
//! - `source-N` sends N bytes, and takes leave
//! - `hold` grants nothing; `sink` takes everything and says nothing
//! - `refuse` refuses the stream; `reset` resets it when bytes come

use megaphone_proto::link::{
    Acceptor, Config, Event, GoAway, Link, LinkId, Open, Reason, Refusal, Request, Secret, Side,
};
use megaphone_proto::proxy::Address;
use megaphone_proto::time::Time;
use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often deadlines are looked at while nothing comes.
const TICK: Duration = Duration::from_millis(20);

/// A node. Its connections end with it.
pub(crate) struct TestNode(Arc<Node>);

struct Node {
    config: Arc<Config>,
    address: SocketAddr,
    start: Instant,
    is_closed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: HashMap<LinkId, Entry>,
    /// Connections that are not accepted, but closed at once.
    is_deaf: bool,
    is_stopping: bool,
    sockets: Vec<TcpStream>,
    /// Handshakes that came to a link, new or resumed.
    welcomed: usize,
    resumed: usize,
    opened: usize,
    failures: Vec<String>,
    /// Bytes that a link may send on a connection before it is cut.
    cut_every: Option<usize>,
}

struct Entry {
    link: Link,
    socket: TcpStream,
    connection: u32,
    streams: HashMap<u32, Stream>,
}

struct Stream {
    service: String,
    out: VecDeque<u8>,
    /// Numbers of bytes that are still to be made up.
    source: Range<u32>,
    received: usize,
    ends: Option<Reason>,
}

impl TestNode {
    pub(crate) fn start(name: &str) -> Self {
        Self::at(name, "127.0.0.1:0".parse().unwrap())
    }

    /// At an address, for one that comes back.
    pub(crate) fn at(name: &str, address: SocketAddr) -> Self {
        let config = Config::new(name, Secret::new(super::SECRET.as_bytes()).unwrap());
        Self::with(config, address)
    }

    pub(crate) fn with(config: Config, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let node = Arc::new(Node {
            config: Arc::new(config),
            address: listener.local_addr().unwrap(),
            start: Instant::now(),
            is_closed: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let accepting = Arc::clone(&node);
        std::thread::spawn(move || accepting.accept(&listener));
        Self(node)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.config.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Links that are there, with a connection.
    pub(crate) fn links(&self) -> usize {
        self.state().links.values().filter(|entry| entry.link.is_connected()).count()
    }

    /// Streams of all links.
    pub(crate) fn streams(&self) -> usize {
        self.state().links.values().map(|entry| entry.link.streams()).sum()
    }

    pub(crate) fn opened(&self) -> usize {
        self.state().opened
    }

    pub(crate) fn resumed(&self) -> usize {
        self.state().resumed
    }

    /// Handshakes that failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.state().failures.clone()
    }

    /// Bytes that came for streams of that service.
    pub(crate) fn received(&self, service: &str) -> usize {
        let state = self.state();
        let streams = state.links.values().flat_map(|entry| entry.streams.values());
        streams.filter(|stream| stream.service == service).map(|stream| stream.received).sum()
    }

    /// Cuts all connections; links stay.
    pub(crate) fn cut(&self) {
        for socket in self.state().sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Cuts each connection when so many bytes have come.
    pub(crate) fn cut_every(&self, bytes: Option<usize>) {
        self.state().cut_every = bytes;
    }

    /// Connections are closed at once, or no longer.
    pub(crate) fn set_deaf(&self, is_deaf: bool) {
        self.state().is_deaf = is_deaf;
    }

    /// Sends bytes that are none of the links' own.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        for entry in self.state().links.values_mut() {
            entry.socket.write_all(bytes).unwrap();
        }
    }

    /// Forgets all links, as a node that was started anew.
    pub(crate) fn forget(&self) {
        self.state().links.clear();
        self.cut();
    }

    /// Says that it wants no new clients.
    pub(crate) fn go_away(&self, reason: GoAway) {
        let now = self.0.now();
        let mut state = self.state();
        state.is_stopping = true;
        for entry in state.links.values_mut() {
            entry.link.go_away(reason);
            entry.serve(now);
        }
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.0.address);
    }
}

impl Node {
    fn now(&self) -> Time {
        Time::from_ticks(self.start.elapsed().as_millis() as u32 / 100 + 1)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for socket in listener.incoming().map_while(Result::ok) {
            if self.is_closed.load(Ordering::Relaxed) {
                return;
            }
            let mut state = self.state.lock().unwrap();
            if state.is_deaf {
                continue;
            }
            state.sockets.push(socket.try_clone().unwrap());
            drop(state);
            let node = Arc::clone(self);
            std::thread::spawn(move || node.serve(socket));
        }
    }

    fn serve(&self, mut socket: TcpStream) {
        socket.set_read_timeout(Some(TICK)).unwrap();
        socket.set_nodelay(true).unwrap();
        let nonce: [u8; 32] = std::array::from_fn(|_| rand_byte());
        let mut acceptor = Acceptor::new(Arc::clone(&self.config), nonce, b"", self.now());
        let mut buffer = vec![0; 64 << 10];
        while let Some(read) = read(&mut socket, &mut buffer) {
            let mut input = &buffer[..read];
            let request = acceptor.handle_input(&mut input);
            let entry = match request {
                Ok(Some(request)) => self.answer(&mut acceptor, request, &socket),
                Ok(None) => None,
                Err(failure) => {
                    self.state.lock().unwrap().failures.push(failure.to_string());
                    write(&mut socket, &mut acceptor);
                    return;
                }
            };
            write(&mut socket, &mut acceptor);
            if let Some((id, connection)) = entry {
                self.carry(id, connection, input, socket, buffer.len());
                return;
            }
        }
    }

    /// The link that the connection is for from here on.
    fn answer(&self, acceptor: &mut Acceptor, request: Request, socket: &TcpStream) -> Option<(LinkId, u32)> {
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        let known = state.links.get_mut(&request.link);
        match known {
            None if request.attempt > 0 => acceptor.refuse(Refusal::Gone),
            None if state.is_stopping => acceptor.refuse(Refusal::Stopping),
            None => {
                state.welcomed += 1;
                acceptor.welcome(None);
                let link = Link::new(Arc::clone(&self.config), Side::Node, request.peer.params, self.now());
                let socket = socket.try_clone().unwrap();
                let entry = Entry { link, socket, connection: 0, streams: HashMap::new() };
                state.links.insert(request.link, entry);
                return Some((request.link, 0));
            }
            Some(entry) => {
                let _ = entry.socket.shutdown(Shutdown::Both);
                entry.link.handle_disconnect(self.now());
                acceptor.welcome(Some(entry.link.received()));
                entry.link.resume(request.attempt, request.received, self.now()).unwrap();
                entry.socket = socket.try_clone().unwrap();
                entry.connection = request.attempt;
                state.resumed += 1;
                return Some((request.link, request.attempt));
            }
        }
        None
    }

    fn carry(&self, id: LinkId, connection: u32, first: &[u8], mut socket: TcpStream, size: usize) {
        let mut input = first.to_vec();
        let mut total = 0;
        loop {
            total += input.len();
            let now = self.now();
            let mut state = self.state.lock().unwrap();
            let (cut_every, before) = (state.cut_every, state.opened);
            let Some(entry) = state.links.get_mut(&id).filter(|entry| entry.connection == connection) else {
                return;
            };
            let opened = entry.take(&input, now);
            entry.serve(now);
            let is_over = entry.link.is_over() || !entry.link.is_connected();
            if entry.link.is_over() {
                state.links.remove(&id);
            }
            state.opened = before + opened;
            drop(state);
            if is_over {
                return;
            }
            let is_due = cut_every.is_some_and(|most| total >= most);
            let mut buffer = vec![0; size];
            let read = if is_due { None } else { read(&mut socket, &mut buffer) };
            let Some(read) = read else {
                let _ = socket.shutdown(Shutdown::Both);
                let mut state = self.state.lock().unwrap();
                if let Some(entry) = state.links.get_mut(&id).filter(|entry| entry.connection == connection) {
                    entry.link.handle_disconnect(self.now());
                }
                return;
            };
            input = buffer[..read].to_vec();
        }
    }
}

impl Entry {
    /// How many streams were opened.
    fn take(&mut self, mut input: &[u8], now: Time) -> usize {
        let mut opened = 0;
        while let Some(event) = self.link.handle_input(&mut input, now) {
            match event {
                Event::Opened(number, open) => {
                    opened += 1;
                    self.open(number, &open);
                }
                Event::Data(number, bytes) => self.data(number, bytes),
                Event::Eof(number) => self.ended(number),
                Event::Closed(number, _) => {
                    self.streams.remove(&number);
                    self.link.close(number, Reason::Closed);
                }
                _ => {}
            }
        }
        self.link.handle_timeout(now);
        opened
    }

    fn open(&mut self, number: u32, open: &Open) {
        let mut stream = Stream {
            service: open.listener.to_string(),
            out: VecDeque::new(),
            source: 0..0,
            received: 0,
            ends: None,
        };
        if stream.service == "describe" {
            let via = open.via.as_ref().map_or_else(|| "-".to_owned(), show);
            stream.out.extend(format!("{} {} {via}\n", show(&open.client), show(&open.local)).bytes());
            stream.ends = Some(Reason::Closed);
        } else if let Some(bytes) = stream.service.strip_prefix("source-") {
            stream.source = 0..bytes.parse().unwrap();
            stream.ends = Some(Reason::Closed);
        } else if stream.service == "refuse" {
            self.link.close(number, Reason::Refused);
            return;
        }
        self.streams.insert(number, stream);
        self.go_on(number);
    }

    fn data(&mut self, number: u32, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.received += bytes.len();
        match &*stream.service {
            "echo" => {
                stream.out.extend(bytes);
                self.link.grant(number, bytes.len() as u32);
                self.go_on(number);
            }
            "reset" => {
                self.streams.remove(&number);
                self.link.close(number, Reason::Reset);
            }
            "hold" => {}
            _ => self.link.grant(number, bytes.len() as u32),
        }
    }

    fn ended(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.ends = Some(Reason::Closed);
        self.go_on(number);
    }

    /// Sends what a stream has, and takes leave behind it.
    fn go_on(&mut self, number: u32) {
        let Some(stream) = self.streams.get(&number) else { return };
        if !stream.out.is_empty() || !stream.source.is_empty() {
            self.link.want_to_send(number);
        } else if let Some(reason) = stream.ends {
            self.streams.remove(&number);
            self.link.close(number, reason);
        }
    }

    fn serve(&mut self, now: Time) {
        loop {
            while let Some((number, most)) = self.link.poll_ready() {
                let Some(stream) = self.streams.get_mut(&number) else { continue };
                let made = stream.source.by_ref().take(most - most.min(stream.out.len()));
                stream.out.extend(made.map(|at| (at % 251) as u8));
                let bytes: Vec<u8> = stream.out.drain(..most.min(stream.out.len())).collect();
                if !bytes.is_empty() {
                    self.link.send_data(number, &bytes).unwrap();
                }
                self.go_on(number);
            }
            let pieces = self.link.poll_transmit();
            let length = pieces.iter().map(|piece| piece.len()).sum();
            if length == 0 {
                return;
            }
            if self.socket.write_all(&pieces.concat()).is_err() {
                self.link.handle_disconnect(now);
                return;
            }
            self.link.written(length);
        }
    }
}

/// None at the end; 0 bytes when nothing came for a while.
fn read(socket: &mut TcpStream, buffer: &mut [u8]) -> Option<usize> {
    match socket.read(buffer) {
        Ok(0) => None,
        Ok(read) => Some(read),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(0),
        Err(_) => None,
    }
}

fn write(socket: &mut TcpStream, acceptor: &mut Acceptor) {
    let mut out = Vec::new();
    acceptor.poll_transmit(&mut out);
    // A peer that is gone is found by the next read.
    let _ = socket.write_all(&out);
}

fn show(address: &Address) -> String {
    match address {
        Address::Ip(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.escape_ascii()),
    }
}

fn rand_byte() -> u8 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() as u8
}
