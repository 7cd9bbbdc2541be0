//! How often the log is told of what.

use crate::host::{Event, Host, Notice, ProxyRefusal, Sink};
use crate::id::ListenerId;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Notices, each kind at most once a minute.
#[derive(Default)]
pub(crate) struct Notices {
    last: Mutex<[Option<Instant>; 12]>,
    paused: AtomicUsize,
}

impl Notices {
    const EVERY: Duration = Duration::from_secs(60);

    fn is_due(&self, kind: usize) -> bool {
        let now = Instant::now();
        let last = &mut self.last.lock()[kind];
        let is_due = last.is_none_or(|last| now.duration_since(last) >= Self::EVERY);
        if is_due {
            *last = Some(now);
        }
        is_due
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn paused<H: Host>(
        &self,
        sink: &mut dyn Sink<H>,
        listener: ListenerId,
        is_new: bool,
        connections: usize,
        error: Option<Errno>,
    ) {
        if is_new {
            self.paused.fetch_add(1, Ordering::Relaxed);
        }
        if self.is_due(0) {
            sink.emit(Event::Notice(Notice::AcceptPaused { listener, connections, error }));
        }
    }

    pub(crate) fn no_longer_paused(&self) {
        self.paused.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn resumed<H: Host>(&self, sink: &mut dyn Sink<H>, listener: ListenerId) {
        self.no_longer_paused();
        if self.is_due(1) {
            sink.emit(Event::Notice(Notice::AcceptResumed { listener }));
        }
    }

    pub(crate) fn accept_failed<H: Host>(&self, sink: &mut dyn Sink<H>, listener: ListenerId, error: Errno) {
        if self.is_due(2) {
            sink.emit(Event::Notice(Notice::AcceptFailed { listener, error }));
        }
    }

    pub(crate) fn start_timeout<H: Host>(&self, sink: &mut dyn Sink<H>, listener: ListenerId) {
        if self.is_due(3) {
            sink.emit(Event::Notice(Notice::StartTimeout { listener }));
        }
    }

    pub(crate) fn register_failed<H: Host>(
        &self,
        sink: &mut dyn Sink<H>,
        listener: ListenerId,
        error: Errno,
    ) {
        if self.is_due(4) {
            sink.emit(Event::Notice(Notice::RegisterFailed { listener, error }));
        }
    }

    pub(crate) fn proxy_refused<H: Host>(
        &self,
        sink: &mut dyn Sink<H>,
        listener: ListenerId,
        peer: Option<SocketAddr>,
        why: ProxyRefusal,
    ) {
        if self.is_due(if why == ProxyRefusal::Untrusted { 5 } else { 6 }) {
            sink.emit(Event::Notice(Notice::ProxyRefused { listener, peer, why }));
        }
    }

    pub(crate) fn link<H: Host>(&self, sink: &mut dyn Sink<H>, notice: Notice) {
        let kind = match notice {
            Notice::LinkUp { .. } => 7,
            Notice::LinkCut { .. } => 8,
            Notice::LinkResumed { .. } => 9,
            Notice::LinkLost { .. } => 10,
            _ => 11,
        };
        if self.is_due(kind) {
            sink.emit(Event::Notice(notice));
        }
    }
}
