//! What a step has to do elsewhere.
//!
//! A connection and a session are never locked together: a step on the one leaves an effect on the other, which is
//! carried out once the lock is released.

use crate::host::{Host, Owned};
use crate::id::Conn;
use crate::session::{Arrival, Creation};
use megaphone_proto::bosh::{Condition, Ticket, terminal_body};
use std::sync::Arc;

pub(crate) enum Effect<H: Host> {
    /// A client wants a session, and its connection holds the request for it.
    Create(Box<Creation<H>>),
    /// A request of a session, which its connection holds.
    Request { session: Conn, arrival: Arrival },
    /// A connection is gone that held a request of the session.
    Lost { session: Conn, conn: Conn },
    /// The answer to the request that the connection holds.
    Respond {
        conn: Conn,
        body: Arc<[u8]>,
        /// The Content-Type, where it is not the usual one.
        content_type: Option<Box<str>>,
    },
}

impl<H: Host> Effect<H> {
    /// An answer by a session, whose tickets are its connections' numbers.
    pub(crate) fn respond(ticket: Ticket, body: Arc<[u8]>, content_type: Option<Box<str>>) -> Option<Self> {
        Some(Self::Respond { conn: Conn::from_u64(ticket)?, body, content_type })
    }

    /// An answer that there is no session for.
    pub(crate) fn terminal(conn: Conn, condition: Condition) -> Self {
        Self::Respond { conn, body: terminal_body(condition).into(), content_type: None }
    }

    /// Whose request it is that the session does not know yet.
    pub(crate) fn asks_for(&self) -> Option<Conn> {
        match self {
            Self::Request { arrival, .. } => Some(arrival.conn),
            Self::Create(_) | Self::Lost { .. } | Self::Respond { .. } => None,
        }
    }

    /// Where it happens.
    pub(crate) fn place(&self) -> Owned {
        match self {
            Self::Create(creation) => Owned::Connection(creation.conn),
            Self::Respond { conn, .. } => Owned::Connection(*conn),
            Self::Request { session, .. } | Self::Lost { session, .. } => Owned::Session(*session),
        }
    }
}
