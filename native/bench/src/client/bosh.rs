//! The client's side of BOSH (XEP-0124, XEP-0206): a poll that the server holds, and a second connection for
//! what is to be sent meanwhile, as browsers have them.

use crate::client::scan::Element;
use crate::client::session::Reply;
use crate::client::{Failure, Random, http};

/// Connections of a user.
pub(crate) const LANES: usize = 2;

/// A BOSH session.
#[derive(Debug)]
pub(crate) struct Bosh {
    sid: Box<str>,
    rid: u64,
    lanes: [Lane; LANES],
    /// Elements that wait for a request to carry them.
    pending: Vec<u8>,
    wish: Wish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Closed,
    Connecting,
    Idle,
    /// A request is out.
    Busy,
}

/// What the next request is to do, besides carrying elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Nothing,
    Create,
    Restart,
    Terminate,
    /// Nothing more is to be sent.
    Silence,
}

/// What to do with a lane.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Open(usize),
    Send(usize, Vec<u8>),
}

/// The body of a response.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    /// The stanzas are its children.
    pub(crate) element: Element<'a>,
    /// The session has ended, for this reason.
    pub(crate) terminated: Option<&'a str>,
    /// Length of the response.
    pub(crate) length: usize,
}

/// Seconds for which the server may hold a poll; what clients usually ask for.
const WAIT: u32 = 60;
const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";
const XBOSH: &str = "urn:xmpp:xbosh";

impl Bosh {
    /// A session to be created over lane 0, which is being opened.
    pub(crate) fn new(random: &mut Random) -> Self {
        Self {
            sid: Box::default(),
            rid: random.next() >> 32,
            lanes: [Lane::Connecting, Lane::Closed],
            pending: Vec::new(),
            wish: Wish::Nothing,
        }
    }

    /// The connection of `lane` is there.
    pub(crate) fn connected(&mut self, lane: usize) {
        self.lanes[lane] = Lane::Idle;
    }

    /// The connection of `lane` is gone; whether the session can go on.
    pub(crate) fn closed(&mut self, lane: usize) -> bool {
        // Servers close connections on which nothing was asked for long, which is no failure.
        let before = std::mem::replace(&mut self.lanes[lane], Lane::Closed);
        before == Lane::Idle
    }

    /// Takes what the session wants sent; [`Bosh::poll`] sends it.
    pub(crate) fn write(&mut self, reply: &Reply, element: &[u8]) {
        match reply {
            Reply::Nothing => {}
            Reply::Open if self.sid.is_empty() => self.wish = Wish::Create,
            Reply::Open => self.wish = Wish::Restart,
            Reply::Element => self.pending.extend_from_slice(element),
            Reply::Close => self.wish = Wish::Terminate,
        }
    }

    /// Says what to do next; to be called until it says nothing.
    pub(crate) fn poll(&mut self, domain: &str) -> Option<Action> {
        let is_waiting = self.lanes.iter().any(|lane| matches!(lane, Lane::Busy | Lane::Connecting));
        let has_news = self.wish != Wish::Nothing || !self.pending.is_empty();
        if self.wish == Wish::Silence || (is_waiting && !has_news) {
            return None;
        }
        if let Some(lane) = self.lanes.iter().position(|lane| *lane == Lane::Idle) {
            self.lanes[lane] = Lane::Busy;
            return Some(Action::Send(lane, self.request(domain)));
        }
        if self.lanes.contains(&Lane::Connecting) {
            return None;
        }
        let lane = self.lanes.iter().position(|lane| *lane == Lane::Closed)?;
        self.lanes[lane] = Lane::Connecting;
        Some(Action::Open(lane))
    }

    /// Reads a response on `lane` from the start of `bytes`; `None` until it is complete.
    ///
    /// # Errors
    /// When the status is no 200, nothing was asked, or the body is not BOSH's.
    pub(crate) fn answered<'a>(&mut self, lane: usize, bytes: &'a [u8]) -> Result<Option<Body<'a>>, Failure> {
        let Some(response) = http::response(bytes)? else { return Ok(None) };
        if response.status != 200 {
            return Err(Failure::Status(response.status));
        }
        if self.lanes[lane] != Lane::Busy {
            return Err(Failure::Malformed("BOSH answer without a request"));
        }
        self.lanes[lane] = Lane::Idle;
        let element = Element::whole(&bytes[response.head..response.length()])?;
        if self.sid.is_empty() {
            self.sid = element.attribute("sid").unwrap_or_default().into();
        }
        let terminated = (element.attribute("type") == Some("terminate"))
            .then(|| element.attribute("condition").unwrap_or("terminate"));
        if self.sid.is_empty() && terminated.is_none() {
            return Err(Failure::Malformed("BOSH session without sid"));
        }
        Ok(Some(Body { element, terminated, length: response.length() }))
    }

    fn request(&mut self, domain: &str) -> Vec<u8> {
        let rid = self.rid;
        self.rid += 1;
        let sid = &self.sid;
        let attributes = match std::mem::replace(&mut self.wish, Wish::Nothing) {
            Wish::Create => format!(
                "to='{domain}' wait='{WAIT}' hold='1' ver='1.6' xml:lang='en' xmlns:xmpp='{XBOSH}' xmpp:version='1.0'"
            ),
            Wish::Restart => {
                format!("sid='{sid}' to='{domain}' xml:lang='en' xmlns:xmpp='{XBOSH}' xmpp:restart='true'")
            }
            Wish::Terminate => {
                self.wish = Wish::Silence;
                format!("sid='{sid}' type='terminate'")
            }
            Wish::Nothing | Wish::Silence => format!("sid='{sid}'"),
        };
        let open = format!("<body xmlns='{HTTPBIND}' rid='{rid}' {attributes}>");
        let pending = std::mem::take(&mut self.pending);
        let close = "</body>";
        let length = open.len() + pending.len() + close.len();
        let mut request = format!(
            "POST /bosh HTTP/1.1\r\nHost: {domain}\r\nContent-Type: text/xml; charset=utf-8\r\n\
             Content-Length: {length}\r\n\r\n{open}"
        )
        .into_bytes();
        request.extend_from_slice(&pending);
        request.extend_from_slice(close.as_bytes());
        request
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const CREATED: &str = "<body sid='s1' xmlns='http://jabber.org/protocol/httpbind'/>";

    fn response(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn sent(action: Option<Action>) -> (usize, String) {
        match action {
            Some(Action::Send(lane, bytes)) => (lane, String::from_utf8(bytes).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn created() -> Bosh {
        let mut bosh = Bosh::new(&mut Random::new(1));
        bosh.write(&Reply::Open, b"");
        assert_eq!(bosh.poll("d"), None, "lane 0 is still being opened");
        bosh.connected(0);
        let (lane, request) = sent(bosh.poll("d"));
        assert_eq!(lane, 0);
        assert!(request.contains("wait='60' hold='1'"), "{request}");
        assert_eq!(bosh.poll("d"), None);
        let answer = response(CREATED);
        assert_eq!(bosh.answered(0, &answer).unwrap().unwrap().length, answer.len());
        bosh
    }

    #[test]
    fn an_idle_session_holds_one_poll_on_one_connection() {
        let mut bosh = created();
        let (lane, request) = sent(bosh.poll("d"));
        assert!(lane == 0 && request.contains("sid='s1'>"), "{request}");
        assert_eq!(bosh.poll("d"), None);
    }

    #[test]
    fn what_is_sent_during_a_poll_goes_over_the_second_connection() {
        let mut bosh = created();
        sent(bosh.poll("d"));
        bosh.write(&Reply::Element, b"<presence/>");
        assert_eq!(bosh.poll("d"), Some(Action::Open(1)));
        assert_eq!(bosh.poll("d"), None);
        bosh.connected(1);
        let (lane, request) = sent(bosh.poll("d"));
        assert!(lane == 1 && request.ends_with("><presence/></body>"), "{request}");
        bosh.answered(0, &response("<body/>")).unwrap().unwrap();
        assert_eq!(bosh.poll("d"), None, "the second request is the held poll now");
    }

    #[test]
    fn request_ids_follow_each_other() {
        let mut bosh = created();
        let rid = |request: &str| -> u64 {
            request.split("rid='").nth(1).unwrap().split('\'').next().unwrap().parse().unwrap()
        };
        let (_, first) = sent(bosh.poll("d"));
        bosh.answered(0, &response("<body/>")).unwrap();
        let (_, second) = sent(bosh.poll("d"));
        assert_eq!(rid(&second), rid(&first) + 1);
    }

    #[test]
    fn only_an_idle_connection_may_be_closed() {
        let mut bosh = created();
        sent(bosh.poll("d"));
        bosh.write(&Reply::Element, b"<presence/>");
        assert_eq!(bosh.poll("d"), Some(Action::Open(1)));
        bosh.connected(1);
        assert!(bosh.closed(1));
        assert!(!bosh.closed(0));
    }

    #[test]
    fn a_terminated_session_says_why_and_is_silent() {
        let mut bosh = created();
        bosh.write(&Reply::Close, b"");
        let (_, request) = sent(bosh.poll("d"));
        assert!(request.contains("type='terminate'"), "{request}");
        let answer = response("<body type='terminate' condition='item-not-found'/>");
        assert_eq!(bosh.answered(0, &answer).unwrap().unwrap().terminated, Some("item-not-found"));
        assert_eq!(bosh.poll("d"), None);
    }
}
