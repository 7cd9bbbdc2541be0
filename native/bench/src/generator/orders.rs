//! What the workers of a crowd are told, and what they answer.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use hdrhistogram::Histogram;

use crate::client::session::Accounts;
use crate::client::user::Transport;
use crate::generator::latency;

/// Who a worker's users are and where they connect to.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    /// The number of the first.
    pub(crate) first: u32,
    pub(crate) count: usize,
    /// Given to the users in turn.
    pub(crate) transports: Vec<Transport>,
    pub(crate) accounts: Accounts,
    /// Where users on TCP connect to.
    pub(crate) c2s: SocketAddr,
    /// Where users on WebSocket and BOSH connect to.
    pub(crate) http: SocketAddr,
}

/// What the users are to do next. Each order is answered by one [`PhaseReport`].
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// Those who are absent log in.
    LogIn { arrival: Arrival, limit: Duration },
    /// Those who are online send something, for this long.
    Traffic { kind: Kind, rate: Rate, long: Duration, body: String },
    /// Those who are online log out.
    LogOut { ramp: f64, limit: Duration },
}

/// How users log in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Logins begun a second. Latency is from the time at which one was due, or began if this is infinite.
    pub(crate) ramp: f64,
    /// Logins in progress at any time, at most.
    pub(crate) at_once: usize,
    /// How often one user may begin again when the server turned it away ([`Failure::is_passing`]).
    ///
    /// [`Failure::is_passing`]: crate::client::Failure::is_passing
    pub(crate) retries: u8,
}

/// What users send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A message to another user of the same worker; its latency ends when that user has read it.
    Chat,
    /// A ping to the server; its latency ends with the answer.
    Ping,
    /// A message from one of the first [`SENDERS`] users of a worker, in turn, to the next of its other users; its
    /// latency ends when that user has read it. Only the first so many of them are sent to, by turns that go on from
    /// one order to the next.
    #[value(skip)]
    Wake { among: usize },
}

/// Users of a worker who send what wakes the others: few, so that they are always awake, and enough that none has much to
/// do.
pub(crate) const SENDERS: usize = 20;

/// Forty characters, about what people write.
pub(crate) const BODY: &str = "It is forty characters that people write";

/// How fast they send.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rate {
    /// So many a second, all users together. Latency counts from the time at which one was due.
    Fixed(f64),
    /// Each user sends when it has the answer to what it sent before. Latency counts from sending.
    Closed,
}

/// How an order was carried out. Latencies are in nanoseconds.
#[derive(Debug)]
pub(crate) struct PhaseReport {
    pub(crate) latency: Histogram<u64>,
    /// Users that logged in or out, or messages and pings that were answered.
    pub(crate) done: u64,
    /// Logins that were begun again, each time counted.
    pub(crate) retried: u64,
    /// Messages and pings sent.
    pub(crate) sent: u64,
    /// From the order to the last thing done.
    pub(crate) elapsed: Duration,
}

impl Default for PhaseReport {
    fn default() -> Self {
        Self { latency: latency::histogram(), done: 0, retried: 0, sent: 0, elapsed: Duration::ZERO }
    }
}

/// How long one user may take to log in or out, and messages to arrive after the last one was sent.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Lanes that each user gets when users have these transports.
pub(crate) fn lanes_each(transports: &[Transport]) -> usize {
    transports.iter().map(|transport| transport.lanes()).max().unwrap_or(1)
}
