//! A process of a test: what it was sent, and what it asks for on its XMPP sessions.

use super::{Message, PATIENCE, Pid, TestHost, TestSink};
use megaphone_core::{Conn, Effort, System, XmppEvent, XmppId};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// A process of the test.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    inbox: Receiver<Message>,
    system: Arc<System<TestHost>>,
    sink: RefCell<TestSink>,
    /// What it has of its XMPP sessions.
    xmpp: RefCell<Pulls>,
}

#[derive(Default)]
struct Pulls {
    /// Taken, and not looked at.
    events: VecDeque<Message>,
    /// Sessions that have more, to be asked once it has dealt with that.
    due: VecDeque<XmppId>,
    /// It takes nothing of them any more.
    ended: Vec<XmppId>,
}

impl Process {
    pub(crate) fn new(
        pid: Pid,
        inbox: Receiver<Message>,
        system: Arc<System<TestHost>>,
        sink: TestSink,
    ) -> Self {
        Self { pid, inbox, system, sink: RefCell::new(sink), xmpp: RefCell::default() }
    }

    /// The next message. Of XMPP sessions that have something it asks what.
    #[track_caller]
    pub(crate) fn next(&self) -> Message {
        loop {
            if let Some(event) = self.pulled() {
                return event;
            }
            match self.inbox.recv_timeout(PATIENCE).expect("a message") {
                Message::Ready(id) => self.xmpp.borrow_mut().due.push_back(id),
                other => return other,
            }
        }
    }

    /// The next event of those that it has; asks for more when it has none.
    fn pulled(&self) -> Option<Message> {
        loop {
            let id = {
                let mut xmpp = self.xmpp.borrow_mut();
                if let Some(event) = xmpp.events.pop_front() {
                    return Some(event);
                }
                xmpp.due.pop_front()?
            };
            self.ask(id);
        }
    }

    /// Asks once, as an owner who has dealt with everything. Whether there is more.
    pub(crate) fn ask(&self, id: XmppId) -> bool {
        if self.xmpp.borrow().ended.contains(&id) {
            return false;
        }
        let mut buffer = vec![0; 64 * 1024];
        let sink = &mut *self.sink.borrow_mut();
        let mut pulled = self.system.xmpp_recv(id, self.pid, Effort::Normal, &mut buffer, sink);
        if pulled.as_ref().is_ok_and(|pulled| pulled.is_large) {
            assert!(pulled.is_ok_and(|pulled| pulled.events.is_empty() && pulled.has_more));
            pulled = self.system.xmpp_recv(id, self.pid, Effort::Large, &mut buffer, sink);
            assert!(pulled.as_ref().is_ok_and(|pulled| !pulled.events.is_empty()));
        }
        let mut xmpp = self.xmpp.borrow_mut();
        let Ok(pulled) = pulled else {
            xmpp.ended.push(id);
            xmpp.events.push_back(Message::Gone);
            return false;
        };
        for event in pulled.events {
            let message = match event {
                XmppEvent::Stream(event) => Message::Stream(event),
                XmppEvent::Error(error) => Message::StreamError(error),
                XmppEvent::Undelivered(elements) => Message::Undelivered(elements),
                XmppEvent::Closed => {
                    xmpp.ended.push(id);
                    Message::Gone
                }
            };
            xmpp.events.push_back(message);
        }
        if pulled.has_more {
            xmpp.due.push_back(id);
        }
        pulled.has_more
    }

    /// Events that it was given and has not looked at.
    pub(crate) fn events(&self) -> usize {
        self.xmpp.borrow().events.len()
    }

    pub(crate) fn has_events(&self) -> bool {
        self.events() > 0
    }

    /// It takes no more of this session.
    pub(crate) fn leaves(&self, id: XmppId) {
        self.xmpp.borrow_mut().ended.push(id);
    }

    /// The next message, which is that a connection wants its handler.
    #[track_caller]
    pub(crate) fn started(&self) -> Conn {
        match self.next() {
            Message::Start { conn, .. } => conn,
            other => panic!("instead of a start: {other:?}"),
        }
    }

    /// There is nothing for it at the moment: nothing in its mailbox, and nothing on its XMPP sessions when it has dealt
    /// with everything and asks.
    pub(crate) fn is_quiet(&self) -> bool {
        loop {
            if let Some(event) = self.pulled() {
                // For a test that goes on.
                self.xmpp.borrow_mut().events.push_front(event);
                return false;
            }
            match self.inbox.try_recv() {
                Err(_) => return true,
                Ok(Message::Ready(id)) => self.xmpp.borrow_mut().due.push_back(id),
                Ok(other) => {
                    self.xmpp.borrow_mut().events.push_front(other);
                    return false;
                }
            }
        }
    }

    /// Takes whatever there is.
    pub(crate) fn drain(&self) {
        while !self.is_quiet() {
            self.xmpp.borrow_mut().events.clear();
        }
    }

    /// It has looked at all that it was given, and was not told of more since.
    pub(crate) fn is_told_nothing(&self) -> bool {
        self.xmpp.borrow().events.is_empty() && self.inbox.try_recv().is_err()
    }
}
