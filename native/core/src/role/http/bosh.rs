//! BOSH on this connection: a request is read, held for its session, and answered in its turn.

use super::service::facts;
use super::{Http, Served, Serving, Stage};
use crate::cx::Cx;
use crate::effect::{Arrival, Creation, Effect, Ticket};
use crate::host::Host;
use crate::id::Conn;
use crate::role::Next;
use crate::sid::Sid;
use crate::transport::Transport;
use megaphone_proto::bosh::{CONTENT_TYPE, Condition, Exchange, Request, Response, terminal_body};
use megaphone_proto::http::{CONTINUE, RequestHead};
use megaphone_proto::xmpp::Limits;

/// Requests under way.
#[derive(Default)]
pub(super) struct Bosh {
    exchange: Exchange,
    /// Who holds them. None: a session is being made.
    held: Vec<(u8, Option<Conn>)>,
    /// The next request is a handler's: it has its turn when all of these are answered.
    is_blocked: bool,
}

/// The extent of a request at the front of the input, in bytes.
#[derive(Clone, Copy)]
struct Extent {
    head: usize,
    total: usize,
}

impl Bosh {
    /// Whether the next request may be looked at.
    pub(super) fn has_room(&self) -> bool {
        self.exchange.has_room() && !self.is_blocked
    }

    fn hold(&mut self, number: u8, session: Option<Conn>) {
        // Mostly there is one.
        self.held.reserve_exact(1);
        self.held.push((number, session));
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let held = self.held.capacity() * size_of::<(u8, Option<Conn>)>();
        size_of::<Self>() + self.exchange.heap_bytes() + held
    }

    /// The next request has to wait for these.
    pub(super) fn block(&mut self) {
        self.is_blocked = true;
    }

    /// The connection ends: its sessions' answers go to others.
    pub(super) fn abandon<H: Host>(self, cx: &mut Cx<'_, H>) {
        for (number, session) in self.held {
            if let Some(session) = session {
                let ticket = Ticket { conn: cx.conn, number };
                cx.effects.push(Effect::Lost { session, ticket });
            }
        }
    }
}

impl<H: Host> Http<H> {
    fn bosh(&mut self) -> &mut Bosh {
        if !matches!(self.serving, Serving::Bosh(_)) {
            self.serving = Serving::Bosh(Box::default());
        }
        match &mut self.serving {
            Serving::Bosh(bosh) => bosh,
            // Made just now.
            _ => unreachable!("serving BOSH"),
        }
    }

    /// Takes the BOSH request at the front of the input, when it is whole.
    pub(super) fn serve_bosh(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Served<H> {
        let (head_len, total) = (self.requests.head_remaining(), self.requests.remaining());
        let Some(head) = RequestHead::parse(&transport.inbound[..head_len]) else {
            return Served::Not(self.start_when_idle(transport, cx));
        };
        let max_stanza = transport.listener.stream.read().max_stanza;
        if total - head_len as u64 > max_stanza as u64 {
            // Its body may never come.
            let number = self.bosh().exchange.begin(&head);
            self.bosh().exchange.close_after(number);
            return Served::Not(self.answer(transport, number, "403 Request Too Large", None, b""));
        }
        if (transport.inbound.len() as u64) < total {
            let waits = head.is_http_1_1 && head.has_word("expect", "100-continue");
            let is_first = self.stage != Stage::Service && transport.inbound.len() == head_len;
            return Served::Not(self.await_body(transport, cx, waits && is_first));
        }
        // No more than the input, which is in memory.
        self.take_bosh(transport, cx, Extent { head: head_len, total: total as usize })
    }

    fn await_body(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        sends_continue: bool,
    ) -> Next<H> {
        if transport.flags.ended {
            return self.end_of_input(cx);
        }
        self.enter(Stage::Service, transport, cx);
        if sends_continue && matches!(self.serving, Serving::Nobody) {
            transport.write_own(CONTINUE);
        }
        Next::Keep
    }

    fn take_bosh(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>, extent: Extent) -> Served<H> {
        let max_stanza = transport.listener.stream.read().max_stanza;
        let limits = Limits { stanza_bytes: max_stanza.saturating_add(1), ..Limits::default() };
        let bytes = transport.inbound.split_to(extent.total);
        let (head, body) = bytes.split_at(extent.head);
        let Some(head) = RequestHead::parse(head) else { return Served::Not(Next::Close { lingers: true }) };
        let request = match Request::parse(body, &limits) {
            Ok(request) => request,
            Err(error) => {
                let number = self.consumed(transport, &head, extent);
                return self.answered(transport, number, &format!("400 {error}"), b"");
            }
        };
        match request.sid.as_deref().filter(|sid| !sid.is_empty()) {
            None => self.ask_for_session(transport, cx, (&head, extent, &bytes), request),
            Some(text) => match Sid::parse(text, cx.shared.sid_tag) {
                // Another node of the cluster may know it, or stock BOSH on this one.
                None => self.put_back(transport, cx, &bytes),
                Some(Sid { session, secret, .. }) => {
                    let number = self.consumed(transport, &head, extent);
                    self.bosh().hold(number, Some(session));
                    let ticket = Ticket { conn: cx.conn, number };
                    let arrival = Arrival { ticket, secret, request: Box::new(request), bytes: body.len() };
                    cx.effects.push(Effect::Request { session, arrival });
                    Served::Taken
                }
            },
        }
    }

    fn ask_for_session(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        (head, extent, bytes): (&RequestHead<'_>, Extent, &[u8]),
        mut request: Request,
    ) -> Served<H> {
        let Some(host) = request.to.as_deref().map(str::to_ascii_lowercase) else {
            let number = self.consumed(transport, head, extent);
            let body = terminal_body(Condition::ImproperAddressing);
            return self.answered(transport, number, "200 OK", &body);
        };
        let Some(config) = cx.shared.bosh_host(&host) else { return self.put_back(transport, cx, bytes) };
        let Ok((peer, local)) = transport.addresses() else {
            return Served::Not(Next::Close { lingers: false });
        };
        request.to = Some(host.into());
        let number = self.consumed(transport, head, extent);
        self.bosh().hold(number, None);
        cx.effects.push(Effect::Create(Box::new(Creation {
            ticket: Ticket { conn: cx.conn, number },
            request,
            config,
            listener: transport.listener.listener(),
            peer,
            local,
            facts: facts(head),
        })));
        Served::Taken
    }

    /// It is a handler's after all.
    fn put_back(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>, bytes: &[u8]) -> Served<H> {
        let rest = std::mem::take(&mut transport.inbound);
        transport.inbound.reserve(bytes.len() + rest.len());
        transport.inbound.extend_from_slice(bytes);
        transport.inbound.extend_from_slice(&rest);
        Served::Not(self.start_when_idle(transport, cx))
    }

    fn start_when_idle(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
        match &mut self.serving {
            Serving::Bosh(bosh) => {
                bosh.block();
                Next::Keep
            }
            _ => self.start(transport, cx),
        }
    }

    /// The request was taken out of the input, and is under way by that number.
    fn consumed(&mut self, transport: &mut Transport<H>, head: &RequestHead<'_>, extent: Extent) -> u8 {
        transport.release_inbound();
        transport.deadline = None;
        self.requests.consumed(extent.total);
        self.requests.next_request();
        self.stage = Stage::New;
        self.bosh().exchange.begin(head)
    }

    /// The session that a request has asked for is there. False when nothing waits for it any more. To be followed by
    /// a look where the input has ended: the session is to know.
    pub(crate) fn held_by(&mut self, number: u8, session: Conn) -> bool {
        let Serving::Bosh(bosh) = &mut self.serving else { return false };
        let Some((_, holder)) = bosh.held.iter_mut().find(|(held, _)| *held == number) else { return false };
        *holder = Some(session);
        true
    }

    /// Answers a request that is held. What is behind it in the input is left to the reactor.
    pub(crate) fn respond(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        number: u8,
        (content_type, body): (Option<&str>, &[u8]),
    ) -> Next<H> {
        let Serving::Bosh(bosh) = &self.serving else { return Next::Keep };
        if !bosh.held.iter().any(|(held, _)| *held == number) {
            return Next::Keep;
        }
        match self.answer(transport, number, "200 OK", content_type, body) {
            Next::Keep if transport.flags.ended || !transport.inbound.is_empty() => Next::Look,
            Next::Keep => match self.settle(transport, cx) {
                Next::Keep => self.look_if_room(transport),
                next => next,
            },
            next => next,
        }
    }

    fn answered(&mut self, transport: &mut Transport<H>, number: u8, status: &str, body: &[u8]) -> Served<H> {
        match self.answer(transport, number, status, None, body) {
            Next::Keep => Served::Taken,
            next => Served::Not(next),
        }
    }

    fn answer(
        &mut self,
        transport: &mut Transport<H>,
        number: u8,
        status: &str,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Next<H> {
        let content_type = content_type.unwrap_or(CONTENT_TYPE);
        let fields = &transport.listener.config.response_headers[..];
        let bosh = self.bosh();
        bosh.held.retain(|(held, _)| *held != number);
        bosh.exchange.handle_answer(number, &Response { status, content_type, fields, body });
        let mut out = Vec::new();
        bosh.exchange.poll_transmit(&mut out);
        let (is_idle, is_last) = (bosh.exchange.is_idle(), bosh.exchange.is_last());
        transport.write_own(&out);
        if is_idle {
            self.serving = Serving::Nobody;
            // Of the next request nothing was looked at, or it waited: its time begins now.
            self.stage = Stage::New;
        }
        if is_idle && is_last {
            let is_unread = !transport.inbound.is_empty() || transport.flags.readable || self.is_unread();
            return Next::Close { lingers: is_unread };
        }
        Next::Keep
    }

    /// The client has closed its side. Requests that were received whole are answered all the same, and soon: who closes
    /// both sides looks the same, and is not to be taken for one who waits.
    pub(super) fn end_of_input(&mut self, cx: &mut Cx<'_, H>) -> Next<H> {
        let Serving::Bosh(bosh) = &mut self.serving else { return Next::Close { lingers: false } };
        for (number, session) in &bosh.held {
            if let Some(session) = *session {
                let ticket = Ticket { conn: cx.conn, number: *number };
                cx.effects.push(Effect::HalfClosed { session, ticket });
            }
        }
        Next::Keep
    }
}
