//! A session with a clock of its own, and its answers read back.

use std::time::Duration;

use megaphone_proto::bosh::{Closed, Config, Event, Request, Session, Ticket};
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
    pub(crate) fn of(events: Vec<Event>) -> Self {
        let mut outcome = Self::default();
        for event in events {
            assert_eq!(outcome.closed, None, "nothing follows the end");
            match event {
                Event::Respond(ticket, bytes) => {
                    outcome.answers.push((ticket, parse_element(&bytes, &Limits::default()).unwrap()));
                }
                Event::Stream(xmpp::Event::StreamStart(el)) => {
                    outcome.stream.push(format!("start {}", text_of(&el)))
                }
                Event::Stream(xmpp::Event::Element(el)) => outcome.stream.push(text_of(&el)),
                Event::Stream(xmpp::Event::StreamEnd(_)) => outcome.stream.push("end".to_owned()),
                Event::Closed(how) => outcome.closed = Some(how),
            }
        }
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
    pub(crate) config: Config,
    pub(crate) now: Duration,
}

impl Driver {
    pub(crate) fn create(attrs: &str, config: Config) -> (Self, Outcome) {
        let now = Duration::from_secs(1000);
        let mut out = Vec::new();
        let session = Session::create(body(attrs, ""), SID, 1, &config, now, &mut out).unwrap();
        (Self { session, config, now }, Outcome::of(out))
    }

    /// A session with rid 100 answered already, that waits 60 seconds and holds one.
    pub(crate) fn ready(attrs: &str, config: Config) -> Self {
        let attrs = format!("rid='100' to='localhost' xmpp:version='1.0' {attrs}");
        let (mut driver, _) = Self::create(&attrs, config);
        driver.send(&["<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>"]);
        driver
    }

    pub(crate) fn request(&mut self, ticket: Ticket, attrs: &str, payload: &str) -> Outcome {
        let mut out = Vec::new();
        self.session.handle_request(body(attrs, payload), ticket, &self.config, self.now, &mut out);
        Outcome::of(out)
    }

    /// A request with nothing but an id, which is the ticket too.
    pub(crate) fn poll(&mut self, rid: u64) -> Outcome {
        self.request(rid, &format!("rid='{rid}' sid='{SID}'"), "")
    }

    pub(crate) fn send(&mut self, elements: &[&str]) -> Outcome {
        for text in elements {
            self.session.queue_element(&element(text));
        }
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> Outcome {
        let mut out = Vec::new();
        self.session.flush(&self.config, self.now, &mut out);
        Outcome::of(out)
    }

    pub(crate) fn disconnect(&mut self, ticket: Ticket) {
        self.session.handle_disconnect(ticket, &self.config, self.now);
    }

    /// Goes to the next time-out and handles it; a moment earlier nothing may happen.
    pub(crate) fn time_out(&mut self) -> (u64, Outcome) {
        let at = self.session.poll_timeout().unwrap();
        let mut out = Vec::new();
        self.session.handle_timeout(&self.config, at - Duration::from_millis(1), &mut out);
        assert!(out.is_empty());
        self.session.handle_timeout(&self.config, at, &mut out);
        let after = at - self.now;
        self.now = at;
        (after.as_secs(), Outcome::of(out))
    }
}
