//! Requests that need no handler: upgrades to WebSocket, and those of BOSH.

use super::*;
use crate::xmpp::{RequestFacts, Route, Service};
use megaphone_proto::http::{self, RequestHead};
use megaphone_proto::ws::{self, Refusal};

impl<H: Host> Connection<H> {
    /// What answers the request at the front of the input, when it is not a handler. Cheap for those of handlers: looks at
    /// nothing but the path.
    pub(super) fn service(&self) -> Option<Service> {
        let requests = self.requests()?;
        if self.listener.config.routes.is_empty() {
            return None;
        }
        let head = self.inbound.get(..requests.head_remaining())?;
        let target = http::target(head);
        let path = target.split(|byte| *byte == b'?').next()?;
        let routes = self.listener.config.routes.iter();
        let route: &Route = routes.into_iter().find(|route| *route.path == *path)?;
        let parsed = RequestHead::parse(head)?;
        let is_ours = match route.service {
            Service::WebSocket => is_upgrade(&parsed) && requests.remaining() == head.len() as u64,
            Service::Bosh => bosh::is_bosh(&parsed) && requests.remaining() > head.len() as u64,
        };
        is_ours.then_some(route.service)
    }

    /// Whether more has to come of the request at the front of the input.
    pub(super) fn is_body_missing(&self) -> bool {
        self.requests().is_some_and(|requests| requests.remaining() > self.inbound.len() as u64)
    }

    /// Answers the request for which there is this service.
    pub(super) fn serve_request(&mut self, cx: &mut Cx<'_, H>, service: Service) -> Fate {
        match service {
            Service::WebSocket => self.serve_upgrade(cx),
            Service::Bosh => self.serve_bosh(cx),
        }
    }

    fn serve_upgrade(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let length = self.requests().map_or(0, Requests::head_remaining);
        let head = self.inbound.split_to(length);
        match RequestHead::parse(&head) {
            Some(head) => self.upgrade(cx, &head),
            // It could be parsed a moment ago.
            None => self.begin_close(cx, true),
        }
    }

    fn upgrade(&mut self, cx: &mut Cx<'_, H>, head: &RequestHead<'_>) -> Fate {
        let config = cx.system.xmpp_config();
        let origins: Vec<&str> = config.origins.iter().map(String::as_str).collect();
        let request =
            ws::Request { method: head.method, is_http_1_1: head.is_http_1_1, headers: &head.fields };
        let policy = ws::Policy { origins: &origins, subprotocol: Some("xmpp") };
        let mut out = Vec::new();
        match ws::accept(&request, &policy) {
            Ok(accepted) => accepted.write_response(&mut out),
            Err(refusal) => {
                self.write_own(&refusal_response(refusal));
                return self.begin_close(cx, true);
            }
        }
        self.write_own(&out);
        self.engine = Engine::Xmpp(Box::new(Link::websocket(facts(head))));
        self.phase = Phase::Waiting(Stage::New);
        self.release_inbound();
        self.settle(cx)
    }
}

fn is_upgrade(head: &RequestHead<'_>) -> bool {
    head.has_word("upgrade", "websocket") && head.has_word("connection", "upgrade")
}

pub(super) fn facts(head: &RequestHead<'_>) -> RequestFacts {
    let path = head.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    RequestFacts {
        host: head.values("host").next().unwrap_or_default().into(),
        path: path.into(),
        forwarded_for: head.values("x-forwarded-for").collect::<Vec<_>>().join(&b", "[..]).into(),
    }
}

fn refusal_response(refusal: Refusal) -> Vec<u8> {
    let (reason, fields) = match refusal {
        Refusal::Origin => ("Forbidden", "Connection: close"),
        // RFC 9110 section 15.5.22 wants to hear what to upgrade to, RFC 6455 section 4.4 which version of it.
        Refusal::Version | Refusal::NoUpgrade => (
            "Upgrade Required",
            "Connection: close, upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
        ),
        Refusal::BadRequest | Refusal::Key => ("Bad Request", "Connection: close"),
    };
    let status = refusal.status();
    format!("HTTP/1.1 {status} {reason}\r\n{fields}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}
