//! Requests that need no handler: which they are, and upgrades to WebSocket.

use super::Http;
use crate::cx::Cx;
use crate::host::Host;
use crate::role::stream::StreamRole;
use crate::role::{Next, Role};
use crate::settings::{RequestFacts, Service};
use crate::transport::Transport;
use megaphone_proto::http::{self, RequestHead};
use megaphone_proto::{bosh, ws};

impl<H: Host> Http<H> {
    /// What answers the request at the front of the input, when it is not a handler. Cheap for those of handlers: looks at
    /// nothing but the path. What is not ours to answer is a handler's, never an error.
    pub(super) fn service(&self, transport: &Transport<H>) -> Option<Service> {
        let routes = &transport.listener.config.routes;
        if routes.is_empty() {
            return None;
        }
        let head = transport.inbound.get(..self.requests.head_remaining())?;
        let target = http::target(head);
        let route = routes.iter().find(|route| route.path.matches(target))?;
        let parsed = RequestHead::parse(head)?;
        let has_body = self.requests.remaining() > head.len() as u64;
        let is_ours = match route.service {
            Service::WebSocket => ws::is_upgrade(&parsed.fields, parsed.is_http_1_1) && !has_body,
            Service::Bosh => bosh::is_bosh(&parsed) && has_body,
        };
        is_ours.then_some(route.service)
    }

    pub(super) fn upgrade(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
        let head = transport.inbound.split_to(self.requests.head_remaining());
        // It could be parsed a moment ago.
        let Some(head) = RequestHead::parse(&head) else { return Next::Close { lingers: true } };
        let config = cx.shared.xmpp();
        let origins: Vec<&str> = config.origins.iter().map(String::as_str).collect();
        let request =
            ws::Request { method: head.method, is_http_1_1: head.is_http_1_1, headers: &head.fields };
        let policy = ws::Policy { origins: &origins, subprotocol: Some("xmpp") };
        let mut out = Vec::new();
        match ws::accept(&request, &policy) {
            Ok(accepted) => accepted.write_response(&mut out),
            Err(refusal) => {
                refusal.response(&transport.listener.error_fields, &mut out);
                transport.write_own(&out);
                return Next::Close { lingers: true };
            }
        }
        transport.write_own(&out);
        transport.release_inbound();
        let stream = StreamRole::websocket(transport, cx, facts(&head));
        Next::Become(Role::Stream(Box::new(stream)))
    }
}

/// What a session wants to know of the request that begins it.
pub(super) fn facts(head: &RequestHead<'_>) -> RequestFacts {
    let path = head.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    RequestFacts {
        host: head.values("host").next().unwrap_or_default().into(),
        path: path.into(),
        forwarded_for: head.last("x-forwarded-for").unwrap_or_default().into(),
    }
}
