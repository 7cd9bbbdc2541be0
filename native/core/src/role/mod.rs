//! What a connection's bytes are. Each role has its own phases, deadlines and wish for input; none sees a descriptor.

pub(crate) mod closing;
pub(crate) mod http;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod stream;

use crate::attached::Attached;
use crate::cx::{Cx, Fate};
use crate::host::{Event, Host};
use crate::listener::Mode;
use crate::settings::XmppId;
use crate::transport::Transport;
use closing::Closing;
use http::Http;
use raw::Raw;
use stream::StreamRole;

pub(crate) enum Role<H: Host> {
    /// Not known before a proxy has said whose connection it is.
    Proxy,
    /// Requests.
    Http(Http<H>),
    /// An XMPP stream.
    Stream(Box<StreamRole<H>>),
    /// The owner's business.
    Raw(Raw<H>),
    /// Nobody's: what is queued leaves, then it ends.
    Closing(Closing),
}

/// What a role's step comes to.
#[must_use]
pub(crate) enum Next<H: Host> {
    Keep,
    /// The reactor should look at the connection (again).
    Look,
    Gone,
    /// Our side closes. `lingers`: closing with unread input would reset the connection and destroy what was sent last.
    Close {
        lingers: bool,
    },
    /// The bytes that follow are something else.
    Become(Role<H>),
}

impl<H: Host> Next<H> {
    /// A look where there is room for bytes that the kernel has.
    pub(crate) fn look_if(wanted: bool) -> Self {
        if wanted { Self::Look } else { Self::Keep }
    }
}

impl<H: Host> From<Fate> for Next<H> {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Keep => Self::Keep,
            Fate::Look => Self::Look,
            Fate::Gone => Self::Gone,
        }
    }
}

/// What the bytes of a listener's connections are at first.
pub(crate) fn first_role<H: Host>(transport: &Transport<H>, cx: &Cx<'_, H>) -> Role<H> {
    match transport.listener.config.mode {
        Mode::Http => Role::Http(Http::new()),
        Mode::Xmpp => Role::Stream(Box::new(StreamRole::tcp(transport, cx))),
        Mode::Raw => Role::Raw(Raw::Attached(Attached::new(transport.listener.config.options))),
        Mode::Accept => Role::Raw(Raw::Queued),
    }
}

/// Asks the listener's starter for somebody to have the connection.
fn ask_for_owner<H: Host>(transport: &mut Transport<H>, cx: &mut Cx<'_, H>, id: Option<XmppId>) {
    transport.set_deadline(cx, transport.listener.config.start_timeout);
    ask(transport, cx, id);
}

/// The same again, until the same deadline. Without a starter the next one is asked, or the deadline ends the connection
/// and the log is told.
pub(crate) fn ask<H: Host>(transport: &Transport<H>, cx: &mut Cx<'_, H>, id: Option<XmppId>) {
    if let Some(to) = *transport.listener.starter.read() {
        let listener = transport.listener.id;
        cx.sink.emit(match id {
            None => Event::Start { to, listener, conn: cx.conn },
            Some(id) => Event::StartXmpp { to, listener, id },
        });
    }
}
