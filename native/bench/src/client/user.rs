//! A user: a session and the transport that carries it.

use clap::ValueEnum;

use crate::client::bosh::{Action, Bosh, LANES};
use crate::client::scan::{self, Element, Token};
use crate::client::session::{self, Reply, Session, User};
use crate::client::ws::{Frame, WebSocket};
use crate::client::{Failure, News, Random, tcp, ws};

/// What carries sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// XMPP over TCP.
    Tcp,
    /// XMPP over WebSocket, at /ws.
    Ws,
    /// BOSH, at /bosh.
    Bosh,
}

/// One user's client. Bytes and events of its lanes go in by `connected`, `received` and `closed`; what comes
/// out is in [`Output`], which has to be carried out after each call. After `received`, when its news have been
/// heard and perhaps answered, `settle` follows.
#[derive(Debug)]
pub(crate) struct Client {
    session: Session,
    carrier: Carrier,
}

#[derive(Debug)]
enum Carrier {
    Tcp,
    WebSocket(WebSocket),
    /// Behind a box: it is the largest, and must not make the others as large.
    Bosh(Box<Bosh>),
}

/// What a call wants done. One is shared by all clients of a worker, who fill it in turn.
#[derive(Debug)]
pub(crate) struct Output {
    /// By lane: whether to open it, and what to send on it.
    pub(crate) open: [bool; LANES],
    pub(crate) bytes: [Vec<u8>; LANES],
    pub(crate) news: Vec<News>,
    pub(crate) random: Random,
    element: Vec<u8>,
}

impl Output {
    /// An empty output. Nonces, masks and request ids follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            open: [false; LANES],
            bytes: [Vec::new(), Vec::new()],
            news: Vec::new(),
            random: Random::new(seed),
            element: Vec::new(),
        }
    }

    /// Forgets what was wanted.
    pub(crate) fn clear(&mut self) {
        self.open = [false; LANES];
        self.bytes.iter_mut().for_each(Vec::clear);
        self.news.clear();
    }
}

impl Transport {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
            Self::Bosh => "bosh",
        }
    }

    /// Lanes that a user of it has.
    pub(crate) fn lanes(self) -> usize {
        if self == Self::Bosh { LANES } else { 1 }
    }
}

impl Client {
    /// A client that begins by opening lane 0.
    pub(crate) fn new(transport: Transport, out: &mut Output) -> Self {
        out.open[0] = true;
        let carrier = match transport {
            Transport::Tcp => Carrier::Tcp,
            Transport::Ws => Carrier::WebSocket(WebSocket::default()),
            Transport::Bosh => Carrier::Bosh(Box::new(Bosh::new(&mut out.random))),
        };
        Self { session: Session::default(), carrier }
    }

    /// The session that is carried.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// `lane` is connected.
    pub(crate) fn connected(&mut self, lane: usize, user: &User<'_>, out: &mut Output) {
        match &mut self.carrier {
            Carrier::Tcp => {
                let reply = self.session.start();
                self.send(&reply, user, out);
            }
            Carrier::WebSocket(socket) => {
                socket.shake(&user.accounts.domain, "/ws", &mut out.random, &mut out.bytes[0]);
            }
            Carrier::Bosh(bosh) => {
                bosh.connected(lane);
                // The second lane carries a session that has long begun.
                let reply = if lane == 0 && !self.session.has_begun() {
                    self.session.start()
                } else {
                    Reply::Nothing
                };
                self.send(&reply, user, out);
            }
        }
    }

    /// `bytes` came on `lane`; says how many were used.
    ///
    /// # Errors
    /// When the user has failed; its lanes are to be closed.
    pub(crate) fn received(
        &mut self,
        lane: usize,
        bytes: &[u8],
        user: &User<'_>,
        out: &mut Output,
    ) -> Result<usize, Failure> {
        match &mut self.carrier {
            Carrier::Tcp => self.received_stream(bytes, user, out),
            Carrier::WebSocket(socket) if socket.is_shaking() => {
                let Some(used) = socket.shaken(bytes)? else { return Ok(0) };
                let reply = self.session.start();
                self.send(&reply, user, out);
                Ok(used + self.received_frames(&bytes[used..], user, out)?)
            }
            Carrier::WebSocket(_) => self.received_frames(bytes, user, out),
            Carrier::Bosh(_) => self.received_response(lane, bytes, user, out),
        }
    }

    /// `lane` has been closed by the server.
    ///
    /// # Errors
    /// When the user has failed by it, as it has with most transports.
    pub(crate) fn closed(&mut self, lane: usize, why: Failure) -> Result<(), Failure> {
        let goes_on = match &mut self.carrier {
            Carrier::Tcp | Carrier::WebSocket(_) => false,
            Carrier::Bosh(bosh) => bosh.closed(lane),
        };
        if goes_on || self.session.has_left() { Ok(()) } else { Err(why) }
    }

    /// Sends a chat message to the JID `to`.
    ///
    /// # Errors
    /// None in practice: writing to memory does not fail.
    pub(crate) fn message(
        &mut self,
        to: &str,
        stamp: u64,
        body: &str,
        user: &User<'_>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        out.element.clear();
        let reply = session::message(&mut out.element, to, stamp, body)?;
        self.send(&reply, user, out);
        Ok(())
    }

    /// Sends a ping to the server.
    ///
    /// # Errors
    /// As [`Client::message`].
    pub(crate) fn ping(&mut self, stamp: u64, user: &User<'_>, out: &mut Output) -> Result<(), Failure> {
        out.element.clear();
        let reply = session::ping(&mut out.element, stamp)?;
        self.send(&reply, user, out);
        Ok(())
    }

    /// Asks for more where the server must be asked. Only now, so that what was said in answer to the last
    /// response goes into the same request: a poll and a request right behind it, on two connections, may
    /// overtake each other, and then stock ejabberd leaves the one that came first lying until the poll ends.
    pub(crate) fn settle(&mut self, user: &User<'_>, out: &mut Output) {
        if matches!(self.carrier, Carrier::Bosh(_)) {
            self.send(&Reply::Nothing, user, out);
        }
    }

    /// Closes the stream; [`News::LoggedOut`] follows.
    pub(crate) fn leave(&mut self, user: &User<'_>, out: &mut Output) {
        let reply = self.session.leave();
        self.send(&reply, user, out);
    }

    fn received_stream(&mut self, bytes: &[u8], user: &User<'_>, out: &mut Output) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some((token, length)) = scan::next(&bytes[used..])? {
            used += length;
            self.handle(&token, user, out)?;
        }
        // Whitespace between stanzas keeps connections alive; it must not be kept as an unfinished stanza.
        Ok(used + scan::whitespace(&bytes[used..]))
    }

    fn received_frames(&mut self, bytes: &[u8], user: &User<'_>, out: &mut Output) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some((frame, length)) = ws::next(&bytes[used..])? {
            used += length;
            let token = match frame {
                Frame::Text(message) => framed(Element::whole(message)?),
                // In good order, </stream> or <close/> comes before it.
                Frame::Close(_) if self.session.has_left() => continue,
                Frame::Close(code) if self.session.is_opening() => return Err(Failure::TurnedAway(code)),
                Frame::Close(code) => {
                    return Err(Failure::Rejected(format!("WebSocket close {code}")));
                }
                Frame::Pong => continue,
                Frame::Ping(payload) => {
                    ws::pong(payload, &mut out.random, &mut out.bytes[0]);
                    continue;
                }
            };
            self.handle(&token, user, out)?;
        }
        Ok(used)
    }

    fn received_response(
        &mut self,
        lane: usize,
        bytes: &[u8],
        user: &User<'_>,
        out: &mut Output,
    ) -> Result<usize, Failure> {
        let Carrier::Bosh(bosh) = &mut self.carrier else { return Ok(bytes.len()) };
        let Some(body) = bosh.answered(lane, bytes)? else { return Ok(0) };
        for child in body.element.children() {
            self.handle(&Token::Element(child), user, out)?;
        }
        if let Some(condition) = body.terminated {
            self.handle(&Token::End, user, out).map_err(|_| Failure::Rejected(condition.to_owned()))?;
        }
        Ok(body.length)
    }

    fn handle(&mut self, token: &Token<'_>, user: &User<'_>, out: &mut Output) -> Result<(), Failure> {
        out.element.clear();
        let reply = self.session.handle(token, user, &mut out.random, &mut out.element, &mut out.news)?;
        match &mut self.carrier {
            // Elements of one response are answered together.
            Carrier::Bosh(bosh) => bosh.write(&reply, &out.element),
            _ => self.send(&reply, user, out),
        }
        Ok(())
    }

    fn send(&mut self, reply: &Reply, user: &User<'_>, out: &mut Output) {
        let domain = &user.accounts.domain;
        match &mut self.carrier {
            Carrier::Tcp => tcp::write(reply, domain, &out.element, &mut out.bytes[0]),
            Carrier::WebSocket(_) => {
                ws::write(reply, domain, &out.element, &mut out.random, &mut out.bytes[0]);
            }
            Carrier::Bosh(bosh) => {
                bosh.write(reply, &out.element);
                while let Some(action) = bosh.poll(domain) {
                    match action {
                        Action::Open(lane) => out.open[lane] = true,
                        Action::Send(lane, request) => out.bytes[lane].extend_from_slice(&request),
                    }
                }
            }
        }
    }
}

fn framed(element: Element<'_>) -> Token<'_> {
    match element.name() {
        "open" => Token::Header,
        "close" => Token::End,
        _ => Token::Element(element),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::sasl::Auth;
    use crate::client::session::Accounts;

    fn accounts() -> Accounts {
        Accounts {
            domain: "localhost".into(),
            auth: Auth::Anonymous,
            prefix: "user".into(),
            password: String::new(),
            caps: false,
        }
    }

    const LOGIN: &str = "<?xml version='1.0'?><stream:stream id='1'><stream:features><mechanisms>\
        <mechanism>ANONYMOUS</mechanism></mechanisms></stream:features><success/>\
        <?xml version='1.0'?><stream:stream id='2'><stream:features><bind/></stream:features>\
        <iq type='result'><bind><jid>a@b/c</jid></bind></iq><presence from='a@b/c'/>";

    #[test]
    fn a_tcp_user_logs_in_wherever_the_server_s_bytes_are_split() {
        let accounts = accounts();
        let user = User { accounts: &accounts, number: 0 };
        for chunk in [1, 2, 7, 64, LOGIN.len()] {
            let mut out = Output::new(1);
            let mut client = Client::new(Transport::Tcp, &mut out);
            client.connected(0, &user, &mut out);
            let mut unread = Vec::new();
            for bytes in LOGIN.as_bytes().chunks(chunk) {
                unread.extend_from_slice(bytes);
                let used = client.received(0, &unread, &user, &mut out).unwrap();
                unread.drain(..used);
            }
            assert_eq!(out.news, [News::Online], "chunks of {chunk}");
            assert!(unread.is_empty());
        }
    }

    #[test]
    fn a_user_that_has_left_may_be_disconnected() {
        let accounts = accounts();
        let user = User { accounts: &accounts, number: 0 };
        let mut out = Output::new(1);
        let mut client = Client::new(Transport::Tcp, &mut out);
        client.connected(0, &user, &mut out);
        client.leave(&user, &mut out);
        assert_eq!(client.received(0, b"</stream:stream>", &user, &mut out), Ok(16));
        assert_eq!(out.news, [News::LoggedOut]);
        assert_eq!(client.closed(0, Failure::Closed), Ok(()));
    }

    #[test]
    fn an_answer_to_a_bosh_response_goes_into_the_next_poll() {
        let accounts = accounts();
        let user = User { accounts: &accounts, number: 0 };
        let mut out = Output::new(1);
        let mut client = Client::new(Transport::Bosh, &mut out);
        client.connected(0, &user, &mut out);
        out.clear();
        let body = "<body sid='s'/>";
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        client.received(0, response.as_bytes(), &user, &mut out).unwrap();
        assert!(out.bytes[0].is_empty(), "not before the news have been heard");
        client.ping(1, &user, &mut out).unwrap();
        client.settle(&user, &mut out);
        let request = String::from_utf8(out.bytes[0].clone()).unwrap();
        assert_eq!(request.matches("POST").count(), 1, "{request}");
        assert!(request.contains("urn:xmpp:ping") && out.bytes[1].is_empty() && !out.open[1], "{request}");
    }

    #[test]
    fn keep_alives_leave_nothing_behind() {
        let accounts = accounts();
        let user = User { accounts: &accounts, number: 0 };
        let mut out = Output::new(1);
        let mut client = Client::new(Transport::Tcp, &mut out);
        assert_eq!(client.received(0, b" \n ", &user, &mut out), Ok(3));
    }

    #[test]
    fn a_websocket_that_is_closed_before_anything_is_offered_was_turned_away() {
        let accounts = accounts();
        let user = User { accounts: &accounts, number: 0 };
        let mut out = Output::new(1);
        let mut client =
            Client { session: Session::default(), carrier: Carrier::WebSocket(WebSocket::default()) };
        client.session.start();
        let close = [0x88, 2, 0x03, 0xe8];
        let failure = client.received(0, &close, &user, &mut out).unwrap_err();
        assert_eq!(failure, Failure::TurnedAway(1000));
        assert!(failure.is_passing());
        let offer = b"<stream:features xmlns:stream='s'><mechanisms><mechanism>ANONYMOUS</mechanism>\
                      </mechanisms></stream:features>";
        let mut frame = vec![0x81, offer.len() as u8];
        frame.extend_from_slice(offer);
        client.received(0, &frame, &user, &mut out).unwrap();
        let failure = client.received(0, &close, &user, &mut out).unwrap_err();
        assert!(!failure.is_passing(), "{failure}");
    }
}
