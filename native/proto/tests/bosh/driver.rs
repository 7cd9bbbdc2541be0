//! A session with a clock of its own, and its answers read back.

use std::sync::Arc;
use std::time::Duration;

use megaphone_proto::bosh::{Closed, Config, Encoded, Request, Session, Ticket};
use megaphone_proto::time::Time;
use megaphone_proto::xmpp::{self, Element, Limits, element_to_vec, parse_element};

pub(crate) const SID: &str = "s1d";

/// A `<body/>` with these attributes, put into the source of one.
pub(crate) fn body(attrs: &str, payload: &str) -> Request {
    parse(&format!(
        "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' {attrs}>{payload}</body>"
    ))
}

pub(crate) fn parse(text: &str) -> Request {
    Request::parse(text.as_bytes(), &Limits::default()).unwrap()
}

pub(crate) fn element(text: &str) -> Element {
    parse_element(text.as_bytes(), &Limits::default()).unwrap()
}

pub(crate) fn text_of(element: &Element) -> String {
    String::from_utf8(element_to_vec(element)).unwrap()
}

/// What came of one step, with the bodies parsed.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answers: Vec<(Ticket, Element)>,
    pub(crate) stream: Vec<String>,
    pub(crate) closed: Option<Closed>,
}

impl Outcome {
    /// Takes all that the session has to say.
    fn of(session: &mut Session) -> Self {
        let mut outcome = Self { closed: session.closed(), ..Self::default() };
        while let Some(answer) = session.poll_answer() {
            outcome.answers.push((answer.ticket, parse_element(&answer.body, &Limits::default()).unwrap()));
        }
        while let Some(event) = session.poll_event() {
            outcome.stream.push(match event {
                xmpp::Event::StreamStart(header) => format!("start {}", text_of(&header)),
                xmpp::Event::Element(stanza) => text_of(&stanza),
                xmpp::Event::StreamEnd(_) => "end".to_owned(),
            });
        }
        assert!(session.poll_answer().is_none() && !session.has_events());
        outcome
    }

    pub(crate) fn tickets(&self) -> Vec<Ticket> {
        self.answers.iter().map(|(ticket, _)| *ticket).collect()
    }

    /// The only answer, which has to be to this ticket, as source text without the usual namespace.
    pub(crate) fn answer_to(&self, ticket: Ticket) -> String {
        assert_eq!(self.tickets(), [ticket], "{self:?}");
        short(&self.answers[0].1)
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.answers.is_empty() && self.stream.is_empty() && self.closed.is_none()
    }
}

pub(crate) fn short(body: &Element) -> String {
    text_of(body).replacen(" xmlns='http://jabber.org/protocol/httpbind'", "", 1)
}

pub(crate) struct Driver {
    pub(crate) session: Session,
    pub(crate) now: Time,
    is_closed: bool,
}

impl Driver {
    pub(crate) fn create(attrs: &str, config: Config) -> (Self, Outcome) {
        let now = Time::from_ticks(10_000);
        let session = Session::create(body(attrs, ""), SID, 1, Arc::new(config), now).unwrap();
        let mut driver = Self { session, now, is_closed: false };
        let outcome = driver.outcome();
        (driver, outcome)
    }

    /// A session with rid 100 answered already, that waits 60 seconds and holds one.
    pub(crate) fn ready(attrs: &str, config: Config) -> Self {
        let attrs = format!("rid='100' to='localhost' xmpp:version='1.0' {attrs}");
        let (mut driver, _) = Self::create(&attrs, config);
        driver.send(&["<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>"]);
        driver
    }

    pub(crate) fn request(&mut self, ticket: Ticket, attrs: &str, payload: &str) -> Outcome {
        self.session.handle_request(body(attrs, payload), ticket, self.now);
        self.outcome()
    }

    /// A request with nothing but an id, which is the ticket too.
    pub(crate) fn poll(&mut self, rid: u64) -> Outcome {
        self.request(rid, &format!("rid='{rid}' sid='{SID}'"), "")
    }

    pub(crate) fn queue(&mut self, text: &str) {
        self.session.queue(Encoded::new(&element(text)));
    }

    pub(crate) fn send(&mut self, elements: &[&str]) -> Outcome {
        elements.iter().for_each(|text| self.queue(text));
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> Outcome {
        self.session.flush(self.now);
        self.outcome()
    }

    pub(crate) fn disconnect(&mut self, ticket: Ticket) {
        self.session.handle_disconnect(ticket, self.now);
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let ticks = time.as_millis() / Time::TICK.as_millis();
        self.now = Time::from_ticks(self.now.ticks() + u32::try_from(ticks).unwrap());
    }

    /// Goes to the next time-out and handles it; a moment earlier nothing may happen.
    pub(crate) fn time_out(&mut self) -> (u64, Outcome) {
        let at = self.session.poll_timeout().unwrap();
        self.session.handle_timeout(Time::from_ticks(at.ticks() - 1));
        assert!(self.outcome().is_nothing());
        self.session.handle_timeout(at);
        let after = at.since(self.now);
        self.now = at;
        (after.as_secs(), self.outcome())
    }

    /// What came of it. That the session is over is said once.
    pub(crate) fn outcome(&mut self) -> Outcome {
        let mut outcome = Outcome::of(&mut self.session);
        if std::mem::replace(&mut self.is_closed, outcome.closed.is_some()) {
            outcome.closed = None;
        }
        outcome
    }
}
