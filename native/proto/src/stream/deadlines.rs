//! What a peer, or an owner at the end, has until when.

use super::Config;
use crate::time::Time;
use std::time::Duration;

/// How long an owner may take to close after the end of the stream.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The deadlines of one stream.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// When the header, or what is half received, must be whole; or when the owner must have closed.
    pub(super) due: Option<Time>,
    /// When the throttle lets more through.
    pub(super) resume: Option<Time>,
    ping: Option<Time>,
    silence: Option<Time>,
    awaits_pong: bool,
}

/// What comes of a deadline that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// None is.
    Nothing,
    /// What was due is not there.
    Due,
    /// The peer gives no sign of life.
    Silence,
    /// It has to be asked for one.
    Ping,
}

impl Deadlines {
    pub(super) fn due_at(at: Time) -> Self {
        Self { due: Some(at), ..Self::default() }
    }

    pub(super) fn next(&self) -> Option<Time> {
        [self.due, self.resume, self.ping, self.silence].into_iter().flatten().min()
    }

    /// The peer of a WebSocket has shown that it lives, or cannot be blamed for not having done so.
    pub(super) fn heard(&mut self, config: &Config, now: Time) {
        self.awaits_pong = false;
        self.silence = Some(now.after(config.websocket_timeout));
        self.ping = config.ping_interval.map(|interval| now.after(interval));
    }

    /// The peer has said all it had to say: now the owner has to close.
    pub(super) fn ended(&mut self, now: Time) {
        *self = Self::due_at(now.after(CLOSE_TIMEOUT));
    }

    pub(super) fn expired(&mut self, config: &Config, now: Time) -> Expired {
        let is_over = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if is_over(self.resume) {
            self.resume = None;
        }
        if is_over(self.due) {
            return Expired::Due;
        }
        if is_over(self.silence) || (is_over(self.ping) && self.awaits_pong) {
            return Expired::Silence;
        }
        if !is_over(self.ping) {
            return Expired::Nothing;
        }
        self.awaits_pong = true;
        self.ping = config.ping_interval.map(|interval| now.after(interval));
        Expired::Ping
    }
}
