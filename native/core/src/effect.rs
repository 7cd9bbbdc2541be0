//! What a step has to do elsewhere.
//!
//! A connection and a session are never locked together: a step on the one leaves an effect on the other, which is
//! carried out once the lock is released.

use crate::carrier::Address;
use crate::host::Host;
use crate::id::Conn;
use crate::listener::Listener;
use crate::settings::RequestFacts;
use crate::sid::Secret;
use megaphone_proto::bosh::{self, Answer, Condition, Request, terminal_body};
use std::sync::Arc;

/// Names a request that a connection holds for a session: the connection, and which of those under way on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) conn: Conn,
    pub(crate) number: u8,
}

impl Ticket {
    const NUMBER_BITS: u32 = 5;

    /// The name that the session's machine knows it by.
    pub(crate) fn as_u64(self) -> bosh::Ticket {
        self.conn.as_u64() << Self::NUMBER_BITS | u64::from(self.number)
    }

    pub(crate) fn from_u64(ticket: bosh::Ticket) -> Option<Self> {
        let conn = Conn::from_u64(ticket >> Self::NUMBER_BITS)?;
        Some(Self { conn, number: (ticket & ((1 << Self::NUMBER_BITS) - 1)) as u8 })
    }
}

/// A request, and who holds it.
pub(crate) struct Arrival {
    pub(crate) ticket: Ticket,
    pub(crate) secret: Secret,
    pub(crate) request: Box<Request>,
    /// Of the request's body.
    pub(crate) bytes: usize,
}

/// All that is known of a session before it is one.
pub(crate) struct Creation<H: Host> {
    pub(crate) ticket: Ticket,
    pub(crate) request: Request,
    pub(crate) config: Arc<bosh::Config>,
    pub(crate) listener: Arc<Listener<H>>,
    pub(crate) peer: Address,
    pub(crate) local: Address,
    pub(crate) facts: RequestFacts,
}

pub(crate) enum Effect<H: Host> {
    /// A client wants a session, and its connection holds the request for it.
    Create(Box<Creation<H>>),
    /// A request of a session, which its connection holds.
    Request { session: Conn, arrival: Arrival },
    /// A connection is gone that held a request of the session.
    Lost { session: Conn, ticket: Ticket },
    /// The client has closed its side of a connection that holds a request of the session: it waits for nothing else.
    HalfClosed { session: Conn, ticket: Ticket },
    /// The answer to a request that the connection holds.
    Respond {
        ticket: Ticket,
        body: Arc<[u8]>,
        /// The Content-Type, where it is not the usual one.
        content_type: Option<Box<str>>,
    },
}

impl<H: Host> Effect<H> {
    /// An answer by a session.
    pub(crate) fn respond(answer: Answer) -> Option<Self> {
        let Answer { ticket, body, content_type } = answer;
        Some(Self::Respond { ticket: Ticket::from_u64(ticket)?, body, content_type })
    }

    /// An answer that there is no session for.
    pub(crate) fn terminal(ticket: Ticket, condition: Condition) -> Self {
        Self::Respond { ticket, body: terminal_body(condition).into(), content_type: None }
    }

    /// The request that the session does not know yet.
    pub(crate) fn asks_for(&self) -> Option<Ticket> {
        match self {
            Self::Request { arrival, .. } => Some(arrival.ticket),
            Self::Create(creation) => Some(creation.ticket),
            Self::Lost { .. } | Self::HalfClosed { .. } | Self::Respond { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_comes_back_from_its_number() {
        let ticket = Ticket { conn: Conn::new(15, 77, u32::MAX), number: 31 };
        assert_eq!(Ticket::from_u64(ticket.as_u64()), Some(ticket));
    }
}
