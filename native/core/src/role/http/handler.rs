//! A process that answers requests: what it reads, and when it is no longer needed.

use super::{Http, Serving, Stage, refuse};
use crate::attached::Attached;
use crate::cx::Cx;
use crate::error::Error;
use crate::host::Host;
use crate::role::Next;
use crate::role::raw::{Taken, take_front};
use crate::settings::Effort;
use crate::transport::Transport;
use megaphone_proto::http::{CONTINUE, Progress, RequestError};

/// What is at the front of the input for a reader.
enum Found {
    Bytes(usize),
    Nothing {
        at_boundary: bool,
    },
    /// Nothing more comes.
    End {
        closes: bool,
    },
    Refused(RequestError),
    /// A request that is not for a handler.
    Service,
}

/// What a handler's read comes to.
pub(crate) enum Step<H: Host> {
    Data(Taken),
    /// More than the effort allows.
    Large,
    Wait {
        at_boundary: bool,
    },
    Failed(Error, Next<H>),
}

impl<H: Host> Http<H> {
    /// The handler makes something else of the connection.
    pub(crate) fn take_attached(&mut self) -> Option<Box<Attached<H>>> {
        match std::mem::replace(&mut self.serving, Serving::Nobody) {
            Serving::Handler(attached) => Some(attached),
            other => {
                self.serving = other;
                None
            }
        }
    }

    /// Bytes of the current request, or the next one.
    pub(crate) fn read(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        (wants, effort): (usize, Effort),
    ) -> Step<H> {
        let Some(delivery) = self.attached().map(|attached| attached.options.delivery()) else {
            return Step::Failed(Error::Closed, Next::Keep);
        };
        match self.find(transport, wants) {
            Found::Bytes(n) if !effort.allows_copy(n, delivery.as_list) => Step::Large,
            Found::Bytes(n) => {
                self.requests.consumed(n);
                Step::Data(Taken { bytes: take_front(&mut transport.inbound, n), packet: None, delivery })
            }
            Found::Nothing { at_boundary } => Step::Wait { at_boundary },
            Found::End { closes } => {
                let options = self.attached().map_or(transport.listener.config.options, |of| of.options);
                let next = if closes { Next::Close { lingers: false } } else { Next::Keep };
                Step::Failed(transport.end(&options), next)
            }
            Found::Refused(error) => Step::Failed(Error::Closed, refuse(transport, error)),
            Found::Service => Step::Failed(Error::Closed, self.take_back(transport, cx)),
        }
    }

    fn find(&mut self, transport: &mut Transport<H>, wants: usize) -> Found {
        let is_in_body = self.requests.remaining() > 0 && self.requests.head_remaining() == 0;
        let ends_here = is_in_body && wants == 0 && transport.listener.config.zero_ends_request;
        if self.requests.remaining() > 0 && !ends_here {
            return self.find_in_request(transport, wants);
        }
        self.requests.next_request();
        match self.advance(transport) {
            Progress::Ready if self.service(transport).is_some() => Found::Service,
            Progress::Ready => self.find_in_request(transport, wants),
            Progress::Refused(error) => Found::Refused(error),
            _ if transport.flags.ended => Found::End { closes: true },
            Progress::Body { send_continue: true } => {
                transport.write_own(CONTINUE);
                Found::Nothing { at_boundary: true }
            }
            _ => Found::Nothing { at_boundary: true },
        }
    }

    fn find_in_request(&self, transport: &Transport<H>, wants: usize) -> Found {
        let available = self.requests.available(transport.inbound.len());
        match (wants, self.requests.head_remaining()) {
            // A head is delivered by itself: who takes a body with it may take it for a next request.
            (0, head @ 1..) => Found::Bytes(head),
            (0, 0) if available > 0 => Found::Bytes(available),
            (1.., _) if available >= wants => Found::Bytes(wants),
            _ if transport.flags.ended => Found::End { closes: false },
            _ => Found::Nothing { at_boundary: false },
        }
    }

    /// Is there what the handler waits for?
    pub(super) fn settle_reader(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
        let Some(reader) = self.attached().and_then(|attached| attached.reader.as_ref()) else {
            return Next::Keep;
        };
        let (at_boundary, wants) = (reader.at_boundary, reader.wants.max(1));
        let has_come = if at_boundary {
            match self.advance(transport) {
                Progress::Ready if self.service(transport).is_some() => return self.take_back(transport, cx),
                Progress::Ready => true,
                Progress::Refused(error) => return refuse(transport, error),
                Progress::Body { send_continue: true } => {
                    transport.write_own(CONTINUE);
                    false
                }
                _ => false,
            }
        } else {
            self.requests.available(transport.inbound.len()) >= wants
        };
        if has_come || transport.flags.ended {
            self.attached_mut().into_iter().for_each(|attached| attached.wake_reader(cx));
        }
        Next::Keep
    }

    /// A handler at a request boundary waited in vain: the connection goes on without it. None when there is something
    /// for it after all.
    pub(crate) fn park(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        process: H::Process,
    ) -> Option<Next<H>> {
        let reader = self.attached().and_then(|attached| attached.reader.as_ref());
        let is_for_another = reader.is_some_and(|reader| reader.process != process);
        if is_for_another || self.requests.remaining() > 0 {
            return None;
        }
        if matches!(self.advance(transport), Progress::Ready | Progress::Refused(_)) {
            return None;
        }
        // The wake-up of its own wait would come late.
        self.attached_mut()?.cancel_wait(process);
        Some(self.take_back(transport, cx))
    }

    /// The connection goes on without a handler.
    fn take_back(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
        self.detach(cx);
        self.stage = Stage::New;
        // Of its start, where it was done before it was handed the connection.
        transport.deadline = None;
        if transport.flags.ended || !transport.inbound.is_empty() {
            // The next request may take long, and this may be a scheduler's thread.
            return Next::Look;
        }
        match self.settle(transport, cx) {
            // Reading may have stopped at the handler's watermark.
            Next::Keep => self.look_if_room(transport),
            next => next,
        }
    }
}
