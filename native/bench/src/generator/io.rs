//! The sockets of one worker: dialling, reading, writing and waiting, for tens of thousands of lanes.
//!
//! A *lane* is a place for one connection; a user has one or two. An idle lane holds no buffer: what arrives
//! is read into one buffer of the worker, and only an unfinished rest is kept. This module knows nothing of
//! protocols: a [`Scenario`] says what to send.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::sys;

/// What a worker does with its lanes. All calls come from the worker's thread.
pub(crate) trait Scenario {
    /// The connection of `lane` is established.
    fn connected(&mut self, io: &mut Io, lane: usize);

    /// Bytes have come; returns how many were used. The rest is given again, with what follows it.
    fn received(&mut self, io: &mut Io, lane: usize, bytes: &[u8]) -> usize;

    /// The connection of `lane` is gone, not by [`Io::close`].
    fn closed(&mut self, io: &mut Io, lane: usize, why: Gone);

    /// Called before each wait: does what is due and says when it must be called next at the latest, or
    /// `None` to end the worker.
    fn turn(&mut self, io: &mut Io, now: Instant) -> Option<Instant>;
}

/// Why a connection ended, or never was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// connect(2) failed.
    Dial(io::ErrorKind),
    /// The peer closed it.
    ByPeer,
    /// Reading or writing failed.
    Broken(io::ErrorKind),
}

/// A worker's sockets. Lanes are numbered from 0 to the count given at construction.
pub(crate) struct Io {
    poll: Poll,
    timer: OwnedFd,
    armed_for: Option<Instant>,
    lanes: Vec<Lane>,
    sources: Sources,
    input: Vec<u8>,
    failed: Vec<(usize, Gone)>,
}

#[derive(Default)]
struct Lane {
    stream: Option<TcpStream>,
    is_connected: bool,
    unread: Option<Box<Rest>>,
    unsent: Option<Box<Rest>>,
}

/// Bytes left over. Behind a box, so that a lane without any pays for a pointer alone.
#[derive(Default)]
struct Rest {
    bytes: Vec<u8>,
}

const TIMER: Token = Token(usize::MAX - 1);
const INPUT_BYTES: usize = 64 * 1024;
const EVENTS_A_TURN: usize = 1024;
/// The longest wait; a command to a worker is seen this late at worst.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

impl Io {
    /// Room for `lanes` connections. `worker` picks a range of source addresses.
    ///
    /// # Errors
    /// Those of epoll_create(2) and timerfd_create(2).
    pub(crate) fn new(lanes: usize, worker: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        // epoll_wait counts in milliseconds, too coarse to send at an intended time.
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Self {
            poll,
            timer,
            armed_for: None,
            lanes: std::iter::repeat_with(Lane::default).take(lanes).collect(),
            sources: Sources::new(worker),
            input: vec![0; INPUT_BYTES],
            failed: Vec::new(),
        })
    }

    /// Starts connecting `lane` to `target`; [`Scenario::connected`] or [`Scenario::closed`] follows.
    pub(crate) fn open(&mut self, lane: usize, target: SocketAddr) {
        if let Err(error) = self.try_open(lane, target) {
            self.fail(lane, Gone::Dial(error.kind()));
        }
    }

    /// Sends `bytes`, keeping what the kernel does not take at once. Without effect on a lane that is closed.
    pub(crate) fn send(&mut self, lane: usize, bytes: &[u8]) {
        let slot = &mut self.lanes[lane];
        if let Some(rest) = &mut slot.unsent {
            rest.bytes.extend_from_slice(bytes);
            return;
        }
        match slot.write(bytes) {
            Ok(written) if written < bytes.len() => {
                slot.unsent = Some(Box::new(Rest { bytes: bytes[written..].to_vec() }));
            }
            Ok(_) => {}
            Err(error) => self.fail(lane, Gone::Broken(error.kind())),
        }
    }

    /// Whether `lane` is connected and the kernel has taken all that was to be sent.
    pub(crate) fn is_drained(&self, lane: usize) -> bool {
        let lane = &self.lanes[lane];
        lane.is_connected && lane.stream.is_some() && lane.unsent.is_none()
    }

    /// Closes `lane`, dropping what was not sent. No call to the scenario follows.
    pub(crate) fn close(&mut self, lane: usize) {
        self.lanes[lane] = Lane::default();
        self.failed.retain(|(failed, _)| *failed != lane);
    }

    /// Runs `scenario` until it has nothing more to do.
    ///
    /// # Errors
    /// Those of epoll_wait(2) and of arming the timer; errors of connections go to the scenario.
    pub(crate) fn run(&mut self, scenario: &mut impl Scenario) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_A_TURN);
        while let Some(due) = scenario.turn(self, Instant::now()) {
            self.wait(&mut events, due)?;
            for event in &events {
                match event.token() {
                    TIMER => self.armed_for = None,
                    Token(lane) => self.handle_event(scenario, lane, event),
                }
            }
            for (lane, why) in std::mem::take(&mut self.failed) {
                scenario.closed(self, lane, why);
            }
        }
        Ok(())
    }

    fn try_open(&mut self, lane: usize, target: SocketAddr) -> io::Result<()> {
        let is_loopback = matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let source = is_loopback.then(|| self.sources.next());
        let mut stream = sys::dial(target, source)?;
        self.poll.registry().register(&mut stream, Token(lane), Interest::READABLE | Interest::WRITABLE)?;
        self.lanes[lane] = Lane { stream: Some(stream), ..Lane::default() };
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, due: Instant) -> io::Result<()> {
        let now = Instant::now();
        let due = due.min(now + LONGEST_WAIT);
        let has_work = due <= now || !self.failed.is_empty();
        if !has_work && self.armed_for.is_none_or(|armed| armed > due || armed <= now) {
            self.arm(due - now)?;
            self.armed_for = Some(due);
        }
        match self.poll.poll(events, has_work.then_some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }

    fn arm(&self, wait: Duration) -> io::Result<()> {
        let it_value = Timespec {
            tv_sec: wait.as_secs().cast_signed(),
            // Zero would disarm the timer.
            tv_nsec: i64::from(wait.subsec_nanos()).max(1),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Itimerspec { it_interval, it_value };
        timerfd_settime(self.timer.as_fd(), TimerfdTimerFlags::empty(), &value)?;
        Ok(())
    }

    fn handle_event(&mut self, scenario: &mut impl Scenario, lane: usize, event: &mio::event::Event) {
        if !self.lanes[lane].is_connected && !self.finish_connecting(scenario, lane) {
            return;
        }
        if event.is_writable() {
            self.flush(lane);
        }
        if event.is_readable() || event.is_read_closed() {
            self.read(scenario, lane, event.is_read_closed());
        }
    }

    /// Whether the lane is now connected.
    fn finish_connecting(&mut self, scenario: &mut impl Scenario, lane: usize) -> bool {
        let Some(stream) = &self.lanes[lane].stream else { return false };
        match stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => {
                self.fail(lane, Gone::Dial(error.kind()));
                return false;
            }
        }
        if stream.peer_addr().is_err() {
            return false;
        }
        self.lanes[lane].is_connected = true;
        scenario.connected(self, lane);
        true
    }

    fn flush(&mut self, lane: usize) {
        let Some(mut rest) = self.lanes[lane].unsent.take() else { return };
        match self.lanes[lane].write(&rest.bytes) {
            Ok(written) if written < rest.bytes.len() => {
                rest.bytes.drain(..written);
                self.lanes[lane].unsent = Some(rest);
            }
            Ok(_) => {}
            Err(error) => self.fail(lane, Gone::Broken(error.kind())),
        }
    }

    fn read(&mut self, scenario: &mut impl Scenario, lane: usize, until_end: bool) {
        let mut input = std::mem::take(&mut self.input);
        // The scenario may close the lane, and even open it anew: the loop looks it up each time.
        while let Some(stream) = &mut self.lanes[lane].stream {
            match stream.read(&mut input) {
                Ok(0) => {
                    self.fail(lane, Gone::ByPeer);
                    break;
                }
                Ok(length) => {
                    self.hand_over(scenario, lane, &input[..length]);
                    // A short read has emptied the socket, and what comes later is an event of its own:
                    // one system call fewer for each message.
                    if length < input.len() && !until_end {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.fail(lane, Gone::Broken(error.kind()));
                    break;
                }
            }
        }
        self.input = input;
    }

    fn hand_over(&mut self, scenario: &mut impl Scenario, lane: usize, bytes: &[u8]) {
        let Some(mut rest) = self.lanes[lane].unread.take() else {
            let used = scenario.received(self, lane, bytes);
            if used < bytes.len() && self.lanes[lane].stream.is_some() {
                self.lanes[lane].unread = Some(Box::new(Rest { bytes: bytes[used..].to_vec() }));
            }
            return;
        };
        rest.bytes.extend_from_slice(bytes);
        let used = scenario.received(self, lane, &rest.bytes);
        if used < rest.bytes.len() && self.lanes[lane].stream.is_some() {
            rest.bytes.drain(..used);
            self.lanes[lane].unread = Some(rest);
        }
    }

    fn fail(&mut self, lane: usize, why: Gone) {
        self.close(lane);
        self.failed.push((lane, why));
    }
}

impl Lane {
    /// Writes what the kernel takes; 0 when it takes none or the lane is not connected.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else { return Ok(bytes.len()) };
        let mut written = 0;
        while written < bytes.len() {
            match stream.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

/// Source addresses in 127.0.0.0/8, in turn, so that ports of one address are no limit.
struct Sources {
    worker: u8,
    last: u8,
}

impl Sources {
    /// A worker's 20,000 descriptors over these are far fewer than the ephemeral ports of each, which leaves
    /// room for ports in TIME-WAIT.
    const ADDRESSES_A_WORKER: u8 = 16;

    fn new(worker: usize) -> Self {
        Self { worker: (worker % 250) as u8, last: 0 }
    }

    fn next(&mut self) -> Ipv4Addr {
        self.last = (self.last + 1) % Self::ADDRESSES_A_WORKER;
        Ipv4Addr::new(127, 1, self.worker, self.last + 1)
    }
}
