//! How long a reactor leaves between two polls.
//!
//! To be woken and to wake owners costs more than to serve: with thousands of stanzas a second it pays to let some gather. A
//! quiet server, and a single busy session, are answered at once; and so are requests, whose clients wait for each.

use crate::host::{Event, Host, Owned, Sink};
use crate::settings::XmppId;
use std::time::{Duration, Instant};

/// How far polls are apart at most for the sake of it.
const GAP: Duration = Duration::from_micros(500);
/// Less than this is not worth a sleep.
const LEAST: Duration = Duration::from_micros(20);
/// What one woken owner adds to the moving sum; it loses an eighth in each gap.
const ONE: u32 = 16;
/// The sum from which it pays: 3,500 owners a second.
const CROWD: u32 = 14 * ONE;
/// Where the sum ends, so that it is back soon.
const MOST: u32 = 256 * ONE;

#[derive(Default)]
pub(crate) struct Pace {
    last_poll: Option<Instant>,
    /// Owners that were woken of late, each after another.
    crowd: u32,
    last_woken: Option<XmppId>,
}

impl Pace {
    /// How long to sleep before the next poll, which may then take up to `timeout`.
    pub(crate) fn pause(&self, now: Instant, timeout: Option<Duration>) -> Option<Duration> {
        let last = self.last_poll.filter(|_| self.crowd > CROWD && timeout != Some(Duration::ZERO))?;
        Some(GAP.saturating_sub(now.duration_since(last))).filter(|pause| *pause > LEAST)
    }

    pub(crate) fn polled(&mut self, now: Instant) {
        let since = self.last_poll.map_or(Duration::MAX, |last| now.duration_since(last));
        let gaps = u32::try_from(since.as_micros() / GAP.as_micros()).unwrap_or(u32::MAX);
        for _ in 0..gaps.min(32) {
            self.crowd -= self.crowd / 8;
        }
        self.last_poll = Some(now);
    }

    fn woken(&mut self, id: XmppId) {
        if self.last_woken.replace(id) != Some(id) {
            self.crowd = (self.crowd + ONE).min(MOST);
        }
    }
}

/// A sink that tells the pace of what goes through it.
pub(crate) struct Paced<'a, H: Host> {
    pub(crate) sink: &'a mut dyn Sink<H>,
    pub(crate) pace: &'a mut Pace,
}

impl<H: Host> Sink<H> for Paced<'_, H> {
    fn emit(&mut self, event: Event<'_, H>) {
        if let Event::XmppReady { id, .. } = &event {
            self.pace.woken(*id);
        }
        self.sink.emit(event);
    }

    fn watch(&mut self, process: H::Process, owned: Owned) -> bool {
        self.sink.watch(process, owned)
    }

    fn unwatch(&mut self, process: H::Process, owned: Owned) {
        self.sink.unwatch(process, owned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Conn;

    const FOREVER: Option<Duration> = None;

    /// Polls `every` so often, each time with an event of one of so many sessions; the pause after a while.
    fn pause_after(every: Duration, sessions: u32) -> Option<Duration> {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        for turn in 0..1000 {
            now += every;
            pace.polled(now);
            pace.woken(XmppId::Tcp(Conn::new(0, turn % sessions, 0)));
        }
        pace.pause(now, FOREVER)
    }

    #[test]
    fn many_sessions_are_let_gather() {
        assert_eq!(pause_after(Duration::from_micros(200), 50), Some(GAP));
    }

    #[test]
    fn a_quiet_server_and_a_single_session_are_answered_at_once() {
        assert_eq!(pause_after(Duration::from_millis(2), 50), None);
        assert_eq!(pause_after(Duration::from_micros(50), 1), None);
    }

    #[test]
    fn silence_ends_it_and_work_that_waits_is_not_put_off() {
        let mut pace = Pace { crowd: MOST, ..Pace::default() };
        let now = Instant::now();
        pace.polled(now);
        assert_eq!(pace.pause(now, Some(Duration::ZERO)), None);
        assert_eq!(pace.pause(now, FOREVER), None, "the first poll decays all");
        pace.crowd = MOST;
        assert!(pace.pause(now, FOREVER).is_some());
        pace.polled(now + Duration::from_millis(20));
        assert_eq!(pace.pause(now + Duration::from_millis(20), FOREVER), None);
    }
}
