//! BOSH on this connection: reading a request, holding it for its session, answering it.

use super::service::facts;
use super::*;
use crate::session::{Arrival, Creation, Sid};
use bytes::Buf;
use megaphone_proto::bosh::{CONTENT_TYPE, Condition, Request, terminal_body};
use megaphone_proto::http::RequestHead;
use megaphone_proto::xmpp;

/// What `mod_bosh` sends with every answer, so that pages of any origin may read it.
const CORS_FIELDS: [(&str, &str); 2] =
    [("Access-Control-Allow-Headers", "Content-Type"), ("Access-Control-Allow-Origin", "*")];

/// How the client wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manners {
    is_http_1_1: bool,
    keeps_alive: bool,
}

/// The extent of a request at the front of the input.
#[derive(Clone, Copy)]
struct Extent {
    head: usize,
    total: u64,
}

impl<H: Host> Connection<H> {
    /// Takes the BOSH request at the front of the input, when it is whole and the answer before it has left.
    pub(super) fn serve_bosh(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let Some(requests) = self.requests() else { return Fate::Keep };
        let extent = Extent { head: requests.head_remaining(), total: requests.remaining() };
        let Some(head) = RequestHead::parse(&self.inbound[..extent.head]) else { return self.start(cx) };
        let manners = Manners::of(&head);
        let expects_continue = manners.is_http_1_1 && head.has_word("expect", "100-continue");
        let max_stanza = cx.system.xmpp_config().max_stanza;
        if extent.total - extent.head as u64 > max_stanza as u64 {
            // Its body may never come.
            let manners = Manners { keeps_alive: false, ..manners };
            return self.answer(cx, manners, "403 Request Too Large", CONTENT_TYPE, b"");
        }
        let is_whole = self.inbound.len() as u64 >= extent.total;
        if is_whole && self.outbound.is_empty() {
            return self.take_bosh(cx, extent, manners, max_stanza);
        }
        if self.flags.ended {
            return self.begin_close(cx, false);
        }
        if self.phase != Phase::Waiting(Stage::Service) {
            self.phase = Phase::Waiting(Stage::Service);
            self.deadline = cx.system.deadline(self.listener.config.body_timeout);
            if expects_continue && self.inbound.len() == extent.head {
                self.write_own(CONTINUE);
            }
        }
        Fate::Keep
    }

    fn take_bosh(&mut self, cx: &mut Cx<'_, H>, extent: Extent, manners: Manners, max_stanza: usize) -> Fate {
        // No more than the input, which is in memory.
        let total = extent.total as usize;
        let limits = xmpp::Limits { stanza_bytes: max_stanza.saturating_add(1), ..xmpp::Limits::default() };
        let request = match Request::parse(&self.inbound[extent.head..total], &limits) {
            Ok(request) => request,
            Err(error) => {
                self.consume_request(total);
                return self.answer(cx, manners, &format!("400 {error}"), CONTENT_TYPE, b"");
            }
        };
        let bytes = total - extent.head;
        match request.sid.as_deref().filter(|sid| !sid.is_empty()) {
            None => self.ask_for_session(cx, extent, manners, request),
            Some(text) => match Sid::parse(text, cx.system.sid_tag()) {
                // Another node of the cluster may know it, or stock BOSH on this one.
                None => self.start(cx),
                Some(Sid { session, secret, .. }) => {
                    self.consume_request(total);
                    let arrival = Arrival { conn: cx.conn, secret, request: Box::new(request), bytes };
                    cx.effects.push(Effect::Request { session, arrival });
                    self.hold(Phase::Held { session, manners })
                }
            },
        }
    }

    fn ask_for_session(
        &mut self,
        cx: &mut Cx<'_, H>,
        extent: Extent,
        manners: Manners,
        mut request: Request,
    ) -> Fate {
        let total = extent.total as usize;
        let Some(host) = request.to.as_deref().map(str::to_ascii_lowercase) else {
            self.consume_request(total);
            let body = terminal_body(Condition::ImproperAddressing);
            return self.answer(cx, manners, "200 OK", CONTENT_TYPE, &body);
        };
        let Some(config) = cx.system.bosh_host(&host) else { return self.start(cx) };
        let (Ok(peer), Ok(local)) = (self.source.peer(), self.source.local()) else {
            return self.begin_close(cx, false);
        };
        request.to = Some(host.into());
        let facts = RequestHead::parse(&self.inbound[..extent.head]).map(|head| facts(&head));
        self.consume_request(total);
        cx.effects.push(Effect::Create(Box::new(Creation {
            conn: cx.conn,
            request,
            bytes: total - extent.head,
            config,
            listener: Arc::clone(&self.listener),
            peer,
            local,
            facts: facts.unwrap_or_default(),
        })));
        self.hold(Phase::Asking(manners))
    }

    fn hold(&mut self, phase: Phase) -> Fate {
        self.phase = phase;
        self.deadline = 0;
        self.look_if_room()
    }

    fn consume_request(&mut self, total: usize) {
        self.inbound.advance(total);
        if let Some(requests) = self.requests_mut() {
            requests.consumed(total);
        }
        self.release_inbound();
    }

    /// The session that this connection has asked for is there. False when the connection no longer waits for it.
    pub(crate) fn held_by(&mut self, session: Conn) -> bool {
        let Phase::Asking(manners) = self.phase else { return false };
        self.phase = Phase::Held { session, manners };
        true
    }

    /// Answers the request that is held.
    pub(crate) fn respond(&mut self, cx: &mut Cx<'_, H>, content_type: Option<&str>, body: &[u8]) -> Fate {
        let (Phase::Held { manners, .. } | Phase::Asking(manners)) = self.phase else { return Fate::Keep };
        self.answer(cx, manners, "200 OK", content_type.unwrap_or(CONTENT_TYPE), body)
    }

    /// Writes an answer and goes on to the next request.
    fn answer(
        &mut self,
        cx: &mut Cx<'_, H>,
        manners: Manners,
        status: &str,
        content_type: &str,
        body: &[u8],
    ) -> Fate {
        let mut out = head(manners, status, content_type, body.len(), &self.listener.config.response_headers);
        out.extend_from_slice(body);
        self.write_own(&out);
        self.phase = Phase::Waiting(Stage::New);
        if !manners.keeps_alive {
            let is_unread = !self.inbound.is_empty() || self.flags.readable;
            return self.begin_close(cx, is_unread);
        }
        if let Some(requests) = self.requests_mut() {
            requests.next_request();
        }
        if self.flags.ended || !self.inbound.is_empty() {
            // The reactor reads requests, whoever answers them.
            return Fate::Look;
        }
        match self.settle(cx) {
            Fate::Keep => self.look_if_room(),
            fate => fate,
        }
    }
}

impl Manners {
    fn of(head: &RequestHead<'_>) -> Self {
        let is_http_1_1 = head.is_http_1_1;
        let closes = head.has_word("connection", "close");
        let keeps_alive = !closes && (is_http_1_1 || head.has_word("connection", "keep-alive"));
        Self { is_http_1_1, keeps_alive }
    }
}

/// Whether it is a request that BOSH in XML answers, by all but its path. `mod_bosh` takes for JSON what is something
/// slash `json`, and `ejabberd_http` wants to know the host.
pub(super) fn is_bosh(head: &RequestHead<'_>) -> bool {
    let is_json = head.values("content-type").any(|value| {
        let first = value.split(|byte| *byte == b';').find(|part| !part.is_empty()).unwrap_or_default();
        let parts = first.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        matches!(parts.collect::<Vec<_>>()[..], [_, b"json"])
    });
    head.method == b"POST" && !is_json && head.values("host").next().is_some()
}

/// The head of an answer. A listener's own header lines replace those of the same name.
fn head(
    manners: Manners,
    status: &str,
    content_type: &str,
    length: usize,
    response_headers: &[u8],
) -> Vec<u8> {
    let version = if manners.is_http_1_1 { "1.1" } else { "1.0" };
    let mut out = format!("HTTP/{version} {status}\r\n");
    if !manners.keeps_alive {
        out.push_str("Connection: close\r\n");
    } else if !manners.is_http_1_1 {
        out.push_str("Connection: keep-alive\r\n");
    }
    out.push_str(&format!("Content-Length: {length}\r\n"));
    for (name, value) in CORS_FIELDS.into_iter().chain([("Content-Type", content_type)]) {
        if !has_field(response_headers, name) {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    let mut out = out.into_bytes();
    out.extend_from_slice(response_headers);
    out.extend_from_slice(b"\r\n");
    out
}

fn has_field(lines: &[u8], name: &str) -> bool {
    let mut names =
        lines.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b':').next());
    names.any(|found| found.eq_ignore_ascii_case(name.as_bytes()))
}
