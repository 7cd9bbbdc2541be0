//! A connection whose bytes are for a process to read and write: its owner, its options, who waits, who watches.

use crate::carrier::FileTarget;
use crate::cx::Cx;
use crate::host::{Event, Host, Owned};
use crate::options::SocketOptions;
use megaphone_proto::packet::Packet;
use std::time::{Duration, Instant};

/// A peer that answers within this is worth looking for: the thread switches of a wait take about as long.
const PROMPT: Duration = Duration::from_micros(100);

/// What a read gives.
pub enum Received<'a> {
    /// Raw bytes.
    Bytes(&'a [u8]),
    /// A packet, in a packet mode.
    Packet(&'a Packet<'a>),
}

/// How a read ended.
#[derive(Debug)]
pub enum ReadOutcome<R> {
    /// What the caller made of the data.
    Data(R),
    /// Nothing there: the caller's waiter is registered.
    Wait {
        /// At a request boundary: park after waiting so long.
        park_after: Option<Duration>,
    },
    /// It takes more than the effort; nothing was taken.
    Large,
}

/// How a look for data ended.
#[derive(Debug)]
pub enum PollOutcome<R> {
    /// What the caller made of the data.
    Data(R),
    /// Nothing there, but it may come soon: look again for a while, then wait.
    Soon,
    /// There is more than a normal effort takes: read it with a large one.
    Large,
    /// Nothing there: wait.
    Nothing,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// All was taken.
    Done,
    /// Nothing was taken: too much is queued. The caller's waiter is registered.
    Wait,
}

/// What to do about a `sendfile`.
pub(crate) enum SendfileOutcome {
    /// Send to this, not holding anything.
    Go(FileTarget),
    /// The caller's waiter is registered.
    Wait,
}

/// Somebody who is to be told that a connection is no longer its owner's.
pub(crate) struct Monitor<H: Host> {
    pub(crate) key: u128,
    pub(crate) process: H::Process,
    pub(crate) waiter: H::Waiter,
}

/// Exists while somebody has the connection, or was asked for.
///
/// Any process may read, write and set options, as with `gen_tcp`. The owner alone is who gets the data of active modes,
/// and whose end closes the connection.
pub(crate) struct Attached<H: Host> {
    /// None until the connection is handed over: nobody becomes the owner by using it.
    pub(crate) owner: Option<H::Process>,
    pub(crate) options: SocketOptions,
    pub(crate) reader: Option<Reader<H>>,
    pub(crate) writers: Writers<H>,
    pub(crate) monitors: Vec<Monitor<H>>,
    /// Packet mode `http`: header fields come next.
    pub(crate) in_headers: bool,
    /// The last wait for this peer was a short one.
    pub(crate) is_prompt: bool,
    /// Bytes were taken or sent: another process can't begin from the beginning.
    pub(crate) is_used: bool,
}

pub(crate) struct Reader<H: Host> {
    pub(crate) process: H::Process,
    pub(crate) waiter: H::Waiter,
    /// Bytes that it needs; 0 is any.
    pub(crate) wants: usize,
    /// It waits for a next request.
    pub(crate) at_boundary: bool,
    pub(crate) since: Instant,
}

impl<H: Host> Attached<H> {
    /// Without an owner.
    pub(crate) fn new(options: SocketOptions) -> Box<Self> {
        Box::new(Self {
            owner: None,
            options,
            reader: None,
            writers: Writers::default(),
            monitors: Vec::new(),
            in_headers: false,
            is_prompt: false,
            is_used: false,
        })
    }

    /// Makes `process` the owner, in place of another where there is one. False when it has ended already.
    pub(crate) fn hand_to(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> bool {
        let is_alive = cx.sink.watch(process, Owned::Connection(cx.conn));
        if is_alive && let Some(former) = self.owner.replace(process) {
            cx.sink.unwatch(former, Owned::Connection(cx.conn));
        }
        is_alive
    }

    pub(crate) fn wait(&mut self, process: H::Process, waiter: H::Waiter, wants: usize, at_boundary: bool) {
        self.reader = Some(Reader { process, waiter, wants, at_boundary, since: Instant::now() });
        self.is_prompt = false;
    }

    pub(crate) fn wake_reader(&mut self, cx: &mut Cx<'_, H>) {
        if let Some(reader) = self.reader.take() {
            self.is_prompt = reader.since.elapsed() < PROMPT;
            cx.sink.emit(Event::Wake(reader.waiter));
        }
    }

    /// Whether somebody else, who lives, waits for data. One who was killed while it waited can't take back its wait.
    pub(crate) fn has_live_reader(&mut self, cx: &Cx<'_, H>) -> bool {
        let is_live = self.reader.as_ref().is_some_and(|reader| cx.shared.host.is_alive(reader.process));
        if !is_live {
            self.reader = None;
        }
        is_live
    }

    /// `process` no longer waits, for data or for room. Whether it did: else it is being woken, or has been.
    pub(crate) fn cancel_wait(&mut self, process: H::Process) -> bool {
        let read = self.reader.as_ref().is_some_and(|reader| reader.process == process);
        if read {
            self.reader = None;
        }
        self.writers.cancel(process) || read
    }

    /// Nobody has the connection from here on: who waits is woken, what it knows the connection by is stale.
    pub(crate) fn detach(self, cx: &mut Cx<'_, H>) {
        if let Some(owner) = self.owner {
            cx.sink.unwatch(owner, Owned::Connection(cx.conn));
        }
        cx.conn = cx.conn.next_generation();
        let readers = self.reader.map(|reader| reader.waiter);
        let monitors = self.monitors.into_iter().map(|monitor| monitor.waiter);
        for waiter in readers.into_iter().chain(self.writers.into_waiters()).chain(monitors) {
            cx.sink.emit(Event::Wake(waiter));
        }
    }
}

/// Who waits for room to send. Nothing is allocated while nobody does.
pub(crate) struct Writers<H: Host>(Option<Box<Waiting<H>>>);

type Waiting<H> = Vec<(<H as Host>::Process, <H as Host>::Waiter)>;

impl<H: Host> Default for Writers<H> {
    fn default() -> Self {
        Self(None)
    }
}

impl<H: Host> Writers<H> {
    pub(crate) fn add(&mut self, process: H::Process, waiter: H::Waiter) {
        self.0.get_or_insert_default().push((process, waiter));
    }

    /// Whether it was among them.
    pub(crate) fn cancel(&mut self, process: H::Process) -> bool {
        self.0.as_mut().is_some_and(|all| {
            let before = all.len();
            all.retain(|(writer, _)| *writer != process);
            all.len() < before
        })
    }

    pub(crate) fn wake(&mut self, cx: &mut Cx<'_, H>) {
        for waiter in std::mem::take(self).into_waiters() {
            cx.sink.emit(Event::Wake(waiter));
        }
    }

    pub(crate) fn into_waiters(self) -> impl Iterator<Item = H::Waiter> {
        self.0.map(|all| *all).unwrap_or_default().into_iter().map(|(_, waiter)| waiter)
    }
}
