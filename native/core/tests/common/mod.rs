//! A node for tests: the core with processes that are mailboxes, and waiters that are channels.
//!
//! Every wait is for an event and ends in a failed test when that does not come; none is for time to pass.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod bridge;
mod process;

pub(crate) use process::Process;

use megaphone_core::packet::Packet;
use megaphone_core::{
    Config, Conn, ConnectionInfo, Effort, Errno, Error, Event, Host, ListenerConfig, ListenerId, Mode,
    Notice, Opt, Owned, ReadOutcome, Received, Sink, System, WriteOutcome, XmppId, xmpp,
};
use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take before its test has failed. Never waited for in a test that passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Names a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pid(u64);

/// What a process was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Start {
        listener: ListenerId,
        conn: Conn,
    },
    StartXmpp {
        listener: ListenerId,
        id: XmppId,
    },
    /// Never seen by a test that takes messages by [`Process::next`], which asks.
    Ready(XmppId),
    Stream(xmpp::Event),
    StreamError(xmpp::StreamError),
    Undelivered(Vec<Box<[u8]>>),
    Gone,
    Data {
        conn: Conn,
        bytes: Vec<u8>,
    },
    Packet {
        conn: Conn,
        packet: String,
    },
    Passive {
        conn: Conn,
    },
    Closed {
        conn: Conn,
        error: Option<Errno>,
    },
}

/// A prepared wake-up.
pub(crate) struct Waiter(Sender<()>);

/// The other end of a [`Waiter`].
pub(crate) struct Wait(Receiver<()>);

pub(crate) fn waiter() -> (Waiter, Wait) {
    let (sender, receiver) = channel();
    (Waiter(sender), Wait(receiver))
}

impl Wait {
    /// Until the wake-up comes.
    #[track_caller]
    pub(crate) fn woken(&self) {
        self.0.recv_timeout(PATIENCE).expect("a wake-up");
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.0.try_recv() == Err(TryRecvError::Empty)
    }

    /// It ended, and not by a wake-up.
    pub(crate) fn is_dropped(&self) -> bool {
        self.0.try_recv() == Err(TryRecvError::Disconnected)
    }
}

struct Processes {
    next: AtomicU64,
    mailboxes: Mutex<HashMap<Pid, Sender<Message>>>,
    watched: Mutex<HashMap<Pid, Vec<Owned>>>,
    /// Threads that took a watch back.
    unwatchers: Mutex<BTreeSet<String>>,
    notices: Mutex<Sender<Notice>>,
}

impl Processes {
    fn send(&self, to: Pid, message: Message) {
        if let Some(mailbox) = self.mailboxes.lock().unwrap().get(&to) {
            // The test may have dropped the process: then nobody cares.
            let _ = mailbox.send(message);
        }
    }
}

pub(crate) struct TestHost(Arc<Processes>);

impl Host for TestHost {
    type Process = Pid;
    type Waiter = Waiter;

    fn is_alive(&self, process: Pid) -> bool {
        self.0.mailboxes.lock().unwrap().contains_key(&process)
    }

    fn thread_sink(&self) -> Box<dyn Sink<Self>> {
        Box::new(TestSink(Arc::clone(&self.0)))
    }
}

pub(crate) struct TestSink(Arc<Processes>);

impl Sink<TestHost> for TestSink {
    fn emit(&mut self, event: Event<'_, TestHost>) {
        match event {
            // One who gave up waiting is no loss.
            Event::Wake(waiter) => drop(waiter.0.send(())),
            Event::Start { to, listener, conn } => self.0.send(to, Message::Start { listener, conn }),
            Event::StartXmpp { to, listener, id } => self.0.send(to, Message::StartXmpp { listener, id }),
            Event::XmppReady { to, id } => self.0.send(to, Message::Ready(id)),
            Event::Data { to, conn, packet: Packet::Line(bytes), .. } => {
                self.0.send(to, Message::Data { conn, bytes: bytes.to_vec() });
            }
            Event::Data { to, conn, packet, .. } => {
                self.0.send(to, Message::Packet { conn, packet: format!("{packet:?}") });
            }
            Event::Passive { to, conn } => self.0.send(to, Message::Passive { conn }),
            Event::Closed { to, conn, error } => self.0.send(to, Message::Closed { conn, error }),
            Event::Notice(notice) => drop(self.0.notices.lock().unwrap().send(notice)),
        }
    }

    fn watch(&mut self, process: Pid, owned: Owned) -> bool {
        let mailboxes = self.0.mailboxes.lock().unwrap();
        let is_alive = mailboxes.contains_key(&process);
        if is_alive {
            self.0.watched.lock().unwrap().entry(process).or_default().push(owned);
        }
        is_alive
    }

    fn unwatch(&mut self, process: Pid, owned: Owned) {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        self.0.unwatchers.lock().unwrap().insert(thread);
        if let Some(all) = self.0.watched.lock().unwrap().get_mut(&process)
            && let Some(at) = all.iter().position(|other| *other == owned)
        {
            all.swap_remove(at);
        }
    }
}

/// A listening socket of a node.
#[derive(Clone, Copy)]
pub(crate) struct Port {
    pub(crate) id: ListenerId,
    pub(crate) address: SocketAddr,
}

impl Port {
    /// A client, whose calls fail instead of waiting for ever.
    #[track_caller]
    pub(crate) fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("connect");
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        client.set_nodelay(true).unwrap();
        client
    }
}

pub(crate) fn config(reactors: usize, max_connections: usize) -> Config {
    Config { reactors, max_connections, max_descriptor: usize::MAX }
}

/// Data, or the wait for them and after how much of it to park.
pub(crate) type Attempt = Result<Vec<u8>, (Wait, Option<Duration>)>;

/// A system and its processes.
pub(crate) struct Node {
    pub(crate) system: Arc<System<TestHost>>,
    processes: Arc<Processes>,
    notices: Mutex<Receiver<Notice>>,
    /// Every client comes by way of a link.
    bridge: std::sync::OnceLock<bridge::Bridge>,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(config(2, 100_000))
    }

    pub(crate) fn with(config: Config) -> Self {
        let (sender, receiver) = channel();
        let processes = Arc::new(Processes {
            next: AtomicU64::new(1),
            mailboxes: Mutex::default(),
            watched: Mutex::default(),
            unwatchers: Mutex::default(),
            notices: Mutex::new(sender),
        });
        let system = System::start(TestHost(Arc::clone(&processes)), config).expect("start");
        Self { system, processes, notices: Mutex::new(receiver), bridge: std::sync::OnceLock::new() }
    }

    pub(crate) fn sink(&self) -> TestSink {
        TestSink(Arc::clone(&self.processes))
    }

    pub(crate) fn spawn(&self) -> Process {
        let pid = Pid(self.processes.next.fetch_add(1, Ordering::Relaxed));
        let (sender, inbox) = channel();
        self.processes.mailboxes.lock().unwrap().insert(pid, sender);
        Process::new(pid, inbox, Arc::clone(&self.system), self.sink())
    }

    /// Ends a process; the system learns of it as it does in Erlang.
    pub(crate) fn kill(&self, process: &Process) {
        let owned = self.kill_unseen(process);
        self.system.process_ended(process.pid, owned, &[]);
    }

    /// Ends a process; its monitors have yet to fire, for what is returned.
    pub(crate) fn kill_unseen(&self, process: &Process) -> Vec<Owned> {
        self.processes.mailboxes.lock().unwrap().remove(&process.pid);
        self.processes.watched.lock().unwrap().remove(&process.pid).unwrap_or_default()
    }

    /// Processes that are watched for the sake of a connection or session.
    pub(crate) fn watches(&self) -> usize {
        self.processes.watched.lock().unwrap().values().map(Vec::len).sum()
    }

    /// The names of the threads that took a watch back.
    pub(crate) fn unwatchers(&self) -> Vec<String> {
        self.processes.unwatchers.lock().unwrap().iter().cloned().collect()
    }

    /// The next thing that the log is told.
    #[track_caller]
    pub(crate) fn notice(&self) -> Notice {
        self.notices.lock().unwrap().recv_timeout(PATIENCE).expect("a notice")
    }

    /// What the log was told and the test has not looked at.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.notices.lock().unwrap().try_iter().collect()
    }

    pub(crate) fn listen(&self, config: ListenerConfig, starter: Option<&Process>) -> Port {
        let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = socket.local_addr().unwrap();
        let is_bridged = crate::IS_BRIDGED;
        let name = format!("{address}");
        let name_of = is_bridged.then(|| name.clone()).or(config.name);
        let config = ListenerConfig { name: name_of, ..config };
        let id =
            self.system.listen(socket.into(), config, starter.map(|process| process.pid)).expect("listen");
        if is_bridged {
            return Port { id, address: self.bridge().listen(&name) };
        }
        Port { id, address }
    }

    fn bridge(&self) -> &bridge::Bridge {
        self.bridge.get_or_init(|| {
            let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
            let address = socket.local_addr().unwrap();
            let config = megaphone_core::LinkListenerConfig::new(bridge::settings("node"));
            self.system.listen_links(socket.into(), config).expect("listen_links");
            let bridge = bridge::Bridge::dial(address);
            assert!(matches!(self.notice(), Notice::LinkUp { .. }));
            bridge
        })
    }

    /// A connection in raw mode that `process` has, and its client.
    #[track_caller]
    pub(crate) fn raw(&self, process: &Process) -> (Conn, TcpStream) {
        self.raw_with(process, ListenerConfig::default())
    }

    #[track_caller]
    pub(crate) fn raw_with(&self, process: &Process, config: ListenerConfig) -> (Conn, TcpStream) {
        let port = self.listen(ListenerConfig { mode: Mode::Raw, ..config }, Some(process));
        let client = port.connect();
        let conn = process.started();
        self.system.handler_started(conn, process.pid, &mut self.sink()).expect("handler_started");
        (conn, client)
    }

    /// One read; its outcome, and where a wake-up would come.
    pub(crate) fn try_read(&self, conn: Conn, process: &Process, wants: usize) -> Result<Attempt, Error> {
        let (waiter, wait) = waiter();
        let outcome = self.system.read(
            conn,
            process.pid,
            (wants, Effort::Large),
            &mut self.sink(),
            Some(|| waiter),
            |received, _| match received {
                Received::Bytes(bytes) => bytes.to_vec(),
                Received::Packet(packet) => format!("{packet:?}").into_bytes(),
            },
        )?;
        Ok(match outcome {
            ReadOutcome::Data(data) => Ok(data),
            ReadOutcome::Wait { park_after } => Err((wait, park_after)),
            ReadOutcome::Large => panic!("more than a large effort"),
        })
    }

    /// When nothing is there, a read that waits; true when it does.
    #[track_caller]
    pub(crate) fn waits_for_next(&self, conn: Conn, process: &Process) -> bool {
        self.info(conn).inbound == 0 && matches!(self.try_read(conn, process, 0), Ok(Err(_)))
    }

    /// A read that has to wait.
    #[track_caller]
    pub(crate) fn wait_read(&self, conn: Conn, process: &Process, wants: usize) -> Wait {
        match self.try_read(conn, process, wants) {
            Ok(Err((wait, _))) => wait,
            other => panic!("instead of a wait: {:?}", other.map(|data| data.ok())),
        }
    }

    /// Reads as `recv` does: waits for its wake-up and asks again.
    #[track_caller]
    pub(crate) fn recv(&self, conn: Conn, process: &Process, wants: usize) -> Result<Vec<u8>, Error> {
        loop {
            match self.try_read(conn, process, wants)? {
                Ok(data) => return Ok(data),
                Err((wait, _)) => wait.woken(),
            }
        }
    }

    /// One write; `Some` when it has to wait.
    pub(crate) fn try_send(
        &self,
        conn: Conn,
        process: &Process,
        bytes: &[u8],
    ) -> Result<Option<Wait>, Error> {
        let (waiter, wait) = waiter();
        let outcome = self.system.write(conn, process.pid, bytes, &mut self.sink(), || waiter)?;
        Ok((outcome == WriteOutcome::Wait).then_some(wait))
    }

    /// Writes as `send` does.
    #[track_caller]
    pub(crate) fn send(&self, conn: Conn, process: &Process, bytes: &[u8]) -> Result<(), Error> {
        while let Some(wait) = self.try_send(conn, process, bytes)? {
            wait.woken();
        }
        Ok(())
    }

    /// Writes until a write has to wait: everything that was taken, and the wait.
    #[track_caller]
    pub(crate) fn fill(&self, conn: Conn, process: &Process) -> (Vec<u8>, Wait) {
        let mut taken = Vec::new();
        loop {
            let next = pattern(taken.len(), 1000);
            if let Some(wait) = self.try_send(conn, process, &next).expect("write") {
                return (taken, wait);
            }
            taken.extend(next);
        }
    }

    #[track_caller]
    pub(crate) fn set(&self, conn: Conn, option: Opt) {
        self.system.set(conn, option, &mut self.sink()).expect("set");
    }

    #[track_caller]
    pub(crate) fn info(&self, conn: Conn) -> ConnectionInfo<Pid> {
        self.system.info(conn).expect("info")
    }

    /// Until no connection is left.
    #[track_caller]
    pub(crate) fn emptied(&self) {
        eventually("all connections gone", || self.system.stats().connections == 0);
    }
}

/// Until something that no event tells of has come true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// `len` bytes of an endless sequence in which a shift or a hole shows.
pub(crate) fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

/// Exactly `len` bytes.
#[track_caller]
pub(crate) fn read_exactly(mut from: impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes).expect("so many bytes");
    bytes
}

/// All up to the end. A reset fails the test.
#[track_caller]
pub(crate) fn read_to_end(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("an end in good order");
    bytes
}

/// Writes from a thread of its own, so that neither side waits for the other.
pub(crate) fn write_in_background(client: &TcpStream, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    let mut client = client.try_clone().unwrap();
    std::thread::spawn(move || client.write_all(&bytes).expect("write"))
}

/// Has the next close of this socket reset the connection.
pub(crate) fn reset(client: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
}

/// Small buffers in the kernel, so that little output fills them. The client's holds two segments of the
/// loopback device: with less, every window update waits for a timer of the kernel's.
pub(crate) fn narrow(node: &Node, conn: Conn, client: &TcpStream) {
    rustix::net::sockopt::set_socket_recv_buffer_size(client, 128 * 1024).unwrap();
    node.set(conn, Opt::SendBuffer(4096));
}

/// Numbers that look random, from a seed that a failed test can name.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
