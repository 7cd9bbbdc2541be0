//! A connection manager that carries every client of a node over a link, for suites that know sockets only.

use megaphone_core::link::{Config, Dial, Dialer, Event, Link, LinkId, Open, Reason, Secret, Side};
use megaphone_core::proxy_header::Address;
use megaphone_proto::time::Time;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const LINK: Token = Token(0);
const WAKER: Token = Token(1);
const CLIENTS: usize = 1 << 32;

pub(crate) fn settings(name: &str) -> Arc<Config> {
    Arc::new(Config::new(name, Secret::new(&[7; 32]).unwrap()))
}

/// Where listeners are added. The thread ends with it.
pub(crate) struct Bridge {
    listeners: Sender<(TcpListener, String)>,
    waker: Arc<OnceLock<Waker>>,
}

impl Bridge {
    pub(crate) fn dial(address: SocketAddr) -> Self {
        let (listeners, added) = channel();
        let waker = Arc::new(OnceLock::new());
        let ours = Arc::clone(&waker);
        let poll = Poll::new().unwrap();
        ours.set(Waker::new(poll.registry(), WAKER).unwrap()).ok();
        let (socket, link, start) = shake(address);
        std::thread::spawn(move || Carrying::new(poll, socket, link, start, added).run());
        Self { listeners, waker }
    }

    pub(crate) fn listen(&self, name: &str) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        socket.set_nonblocking(true).unwrap();
        self.listeners.send((socket, name.to_owned())).unwrap();
        self.waker.get().unwrap().wake().unwrap();
        address
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.waker.get().unwrap().wake().unwrap();
    }
}

fn now(start: Instant) -> Time {
    Time::from_ticks((start.elapsed().as_millis() / Time::TICK.as_millis()) as u32 + 1)
}

fn shake(address: SocketAddr) -> (TcpStream, Link, Instant) {
    let (config, start) = (settings("bridge"), Instant::now());
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    let dial = Dial { to: "", link: LinkId([1; 16]), attempt: 0, received: 0, nonce: [2; 32], binding: b"" };
    let mut dialer = Dialer::new(Arc::clone(&config), dial, now(start));
    let mut buffer = [0; 4096];
    loop {
        let mut out = Vec::new();
        dialer.poll_transmit(&mut out);
        socket.write_all(&out).unwrap();
        let n = socket.read(&mut buffer).unwrap();
        if let Some(welcome) = dialer.handle_input(&mut &buffer[..n]).unwrap() {
            return (socket, Link::new(config, Side::Ecm, welcome.params, now(start)), start);
        }
    }
}

struct Client {
    socket: TcpStream,
    to_client: Vec<u8>,
    is_readable: bool,
    has_sent_all: bool,
    node_has_sent_all: bool,
    is_shut: bool,
    left: Option<Reason>,
}

struct Carrying {
    poll: Poll,
    socket: TcpStream,
    link: Link,
    start: Instant,
    added: Receiver<(TcpListener, String)>,
    listeners: Vec<(TcpListener, String)>,
    clients: HashMap<u32, Client>,
}

impl Carrying {
    fn new(
        poll: Poll,
        socket: TcpStream,
        link: Link,
        start: Instant,
        added: Receiver<(TcpListener, String)>,
    ) -> Self {
        socket.set_nonblocking(true).unwrap();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), LINK, interest).unwrap();
        Self { poll, socket, link, start, added, listeners: Vec::new(), clients: HashMap::new() }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let timeout = Some(Duration::from_millis(100));
            self.poll.poll(&mut events, timeout).unwrap();
            loop {
                match self.added.try_recv() {
                    Ok((socket, name)) => self.add(socket, name),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                }
            }
            for event in &events {
                let Token(token) = event.token();
                if token >= CLIENTS {
                    let number = (token - CLIENTS) as u32;
                    if let Some(client) = self.clients.get_mut(&number) {
                        client.is_readable |=
                            event.is_readable() || event.is_read_closed() || event.is_error();
                    }
                    self.link.want_to_send(number);
                    self.write(number);
                }
            }
            for at in 0..self.listeners.len() {
                self.accept(at);
            }
            let now = now(self.start);
            self.link.handle_timeout(now);
            if !self.read_link() {
                return;
            }
            self.flush();
        }
    }

    fn add(&mut self, socket: TcpListener, name: String) {
        let token = Token(2 + self.listeners.len());
        self.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE).unwrap();
        self.listeners.push((socket, name));
    }

    fn accept(&mut self, at: usize) {
        while let Ok((socket, peer)) = self.listeners[at].0.accept() {
            socket.set_nonblocking(true).unwrap();
            socket.set_nodelay(true).unwrap();
            let (client, local) = (Address::Ip(peer), Address::Ip(socket.local_addr().unwrap()));
            let listener = self.listeners[at].1.as_str().into();
            let number = self.link.open(&Open { listener, client, local, via: None }).unwrap();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut SourceFd(&socket.as_raw_fd()), Token(CLIENTS + number as usize), interest)
                .unwrap();
            let client = Client {
                socket,
                to_client: Vec::new(),
                is_readable: true,
                has_sent_all: false,
                node_has_sent_all: false,
                is_shut: false,
                left: None,
            };
            self.clients.insert(number, client);
            self.link.want_to_send(number);
        }
    }

    fn read_link(&mut self) -> bool {
        let mut buffer = vec![0; 65536];
        loop {
            let mut input = match self.socket.read(&mut buffer) {
                Ok(0) => return false,
                Ok(n) => &buffer[..n],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            };
            let now = now(self.start);
            let mut touched = Vec::new();
            while let Some(event) = self.link.handle_input(&mut input, now) {
                match event {
                    Event::Data(number, bytes) => {
                        if let Some(client) = self.clients.get_mut(&number) {
                            client.to_client.extend_from_slice(bytes);
                            touched.push(number);
                        }
                    }
                    Event::Eof(number) => {
                        if let Some(client) = self.clients.get_mut(&number) {
                            client.node_has_sent_all = true;
                            touched.push(number);
                        }
                    }
                    Event::Closed(number, reason) => {
                        self.link.close(number, Reason::Closed);
                        if let Some(client) = self.clients.get_mut(&number) {
                            client.left = Some(reason);
                            touched.push(number);
                        }
                    }
                    Event::Lost(_) => return false,
                    _ => {}
                }
            }
            touched.into_iter().for_each(|number| self.write(number));
        }
    }

    /// To a client, and what follows when all is written.
    fn write(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        if client.left == Some(Reason::Reset) {
            rustix::net::sockopt::set_socket_linger(&client.socket, Some(Duration::ZERO)).unwrap();
            self.clients.remove(&number);
            return;
        }
        while !client.to_client.is_empty() {
            match client.socket.write(&client.to_client) {
                Ok(n) => {
                    client.to_client.drain(..n);
                    self.link.grant(number, n as u32);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.link.close(number, Reason::Reset);
                    self.clients.remove(&number);
                    return;
                }
            }
        }
        if client.left.is_some() {
            self.clients.remove(&number);
            return;
        }
        if client.node_has_sent_all && !client.is_shut {
            client.is_shut = true;
            let _ = client.socket.shutdown(Shutdown::Write);
        }
        if client.is_shut && client.has_sent_all {
            self.link.close(number, Reason::Closed);
            self.clients.remove(&number);
        }
    }

    fn flush(&mut self) {
        let mut buffer = vec![0; 65536];
        loop {
            while let Some((number, most)) = self.link.poll_ready() {
                let Some(client) = self.clients.get_mut(&number).filter(|client| client.is_readable) else {
                    continue;
                };
                match client.socket.read(&mut buffer[..most]) {
                    Ok(0) => {
                        client.has_sent_all = true;
                        client.is_readable = false;
                        self.link.close(number, Reason::Eof);
                        self.write(number);
                    }
                    Ok(n) => {
                        self.link.send_data(number, &buffer[..n]).unwrap();
                        self.link.want_to_send(number);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => client.is_readable = false,
                    Err(_) => {
                        self.link.close(number, Reason::Reset);
                        self.clients.remove(&number);
                    }
                }
            }
            let bytes = self.link.poll_transmit().concat();
            match self.socket.write(&bytes) {
                Ok(n) if n > 0 => self.link.written(n),
                _ => return,
            }
        }
    }
}
