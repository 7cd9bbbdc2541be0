//! Requests: collected without a process, and given to a handler, to a BOSH session, or to a stream.
//!
//! Where a request ends is `megaphone_proto::http`'s. Here is who answers it: `handler` has what a process asks for that
//! answers requests, `bosh` those that wait for a session.

mod bosh;
mod handler;
mod service;

use super::{Next, ask_for_owner};
use crate::attached::Attached;
use crate::cx::Cx;
use crate::host::Host;
use crate::settings::Service;
use crate::transport::Transport;
pub(crate) use handler::Step;

use bosh::Bosh;
use megaphone_proto::http::{CONTINUE, Progress, RequestError, Requests};

/// Queued output above which no further request is taken.
const UNSENT: usize = 64 * 1024;

/// What has come of the request that nobody has yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Idle,
    Head,
    Body,
    /// All that framing needs; the rest of its body is collected here.
    Service,
}

enum Serving<H: Host> {
    Nobody,
    /// A process has it, or the starter was told: then it has no owner yet.
    Handler(Box<Attached<H>>),
    /// Sessions have requests of this connection, or are being made for one.
    Bosh(Box<Bosh>),
}

pub(crate) struct Http<H: Host> {
    requests: Requests,
    stage: Stage,
    serving: Serving<H>,
}

/// What became of the request at the front.
enum Served<H: Host> {
    /// It was taken; there may be another.
    Taken,
    Not(Next<H>),
}

impl<H: Host> Http<H> {
    pub(crate) fn new() -> Self {
        Self { requests: Requests::new(), stage: Stage::New, serving: Serving::Nobody }
    }

    pub(crate) fn attached(&self) -> Option<&Attached<H>> {
        match &self.serving {
            Serving::Handler(attached) => Some(attached),
            Serving::Nobody | Serving::Bosh(_) => None,
        }
    }

    pub(crate) fn attached_mut(&mut self) -> Option<&mut Attached<H>> {
        match &mut self.serving {
            Serving::Handler(attached) => Some(attached),
            Serving::Nobody | Serving::Bosh(_) => None,
        }
    }

    /// Bytes of memory besides the connection, without those that were received or are to be sent.
    pub(crate) fn bytes(&self) -> usize {
        match &self.serving {
            Serving::Handler(_) => size_of::<Attached<H>>(),
            Serving::Bosh(bosh) => bosh.bytes(),
            Serving::Nobody => 0,
        }
    }

    pub(crate) fn is_starting(&self) -> bool {
        self.attached().is_some_and(|attached| attached.owner.is_none())
    }

    pub(crate) fn name(&self) -> &'static str {
        match (&self.serving, self.stage) {
            (Serving::Nobody, Stage::New | Stage::Idle) => "parked",
            (Serving::Nobody, Stage::Head | Stage::Body | Stage::Service) => "reading",
            (Serving::Handler(_), _) if self.is_starting() => "starting",
            (Serving::Handler(_), _) => "running",
            (Serving::Bosh(_), _) => "held",
        }
    }

    /// More of the request at the front has yet to be read by its handler.
    pub(crate) fn is_unread(&self) -> bool {
        self.requests.remaining() > 0
    }

    /// Bytes are read ahead of the one who wants them.
    pub(crate) fn wants_input(&self, transport: &Transport<H>) -> bool {
        let held = transport.inbound.len();
        let most = transport.listener.config.options.recv_high_watermark;
        if transport.flags.ended {
            return false;
        }
        match (&self.serving, self.stage) {
            // Read on all the same, for the end of the input.
            (Serving::Nobody | Serving::Bosh(_), _) if !self.takes_more(transport) => held < most,
            (Serving::Nobody, Stage::Service) => self.requests.remaining() > held as u64,
            // What is there may be the next request, whole.
            (Serving::Nobody, Stage::New) => held == 0,
            (Serving::Nobody, _) => true,
            (Serving::Bosh(_), Stage::Service) => self.requests.remaining() > held as u64,
            (Serving::Bosh(_), _) => held < most,
            (Serving::Handler(attached), _) => match &attached.reader {
                // A request that is being collected has bounds of its own, as without a handler.
                Some(reader) if reader.at_boundary => true,
                reader => {
                    let wanted = reader.as_ref().map_or(0, |reader| reader.wants);
                    held < attached.options.recv_high_watermark.max(wanted)
                }
            },
        }
    }

    pub(crate) fn on_input(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        buffer: &mut [u8],
    ) -> Next<H> {
        if transport.may_read() && self.wants_input(transport) {
            transport.receive(buffer);
        }
        match self.settle(transport, cx) {
            Next::Keep => self.look_if_room(transport),
            next => next,
        }
    }

    fn look_if_room(&self, transport: &Transport<H>) -> Next<H> {
        Next::look_if(transport.may_read() && self.wants_input(transport))
    }

    /// Does what the bytes at hand allow.
    pub(crate) fn settle(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
        match self.serving {
            Serving::Nobody | Serving::Bosh(_) => self.collect(transport, cx),
            Serving::Handler(_) => self.settle_reader(transport, cx),
        }
    }

    /// Where the sequence of requests stands.
    fn advance(&mut self, transport: &mut Transport<H>) -> Progress {
        let progress = self.requests.advance(&mut transport.inbound, &transport.listener.config.limits);
        transport.release_inbound();
        progress
    }

    /// Looks at the next request while no handler has the connection.
    fn collect(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
        loop {
            if transport.fault.is_some() {
                return Next::Close { lingers: false };
            }
            if !self.takes_more(transport) {
                return self.await_room(transport, cx);
            }
            let stage = match self.advance(transport) {
                // Its head was read before, and need not be for each byte that comes.
                Progress::Ready if self.lacks_body(transport) => return Next::Keep,
                Progress::Ready => match self.serve(transport, cx) {
                    Served::Taken => continue,
                    Served::Not(next) => return next,
                },
                Progress::Refused(error) => return self.refuse_in_turn(transport, cx, error),
                // What a peer that has closed its side is still receiving is its own.
                _ if transport.flags.ended => return self.end_of_input(cx),
                Progress::Idle => Stage::Idle,
                Progress::Head => Stage::Head,
                Progress::Body { send_continue } => {
                    // Behind others it would be taken for theirs; a client does not wait for it for ever.
                    if send_continue && matches!(self.serving, Serving::Nobody) {
                        transport.write_own(CONTINUE);
                    }
                    Stage::Body
                }
            };
            self.enter(stage, transport, cx);
            return Next::Keep;
        }
    }

    /// Whether a next request may be taken. The answer would be queued behind what the client does not read.
    fn takes_more(&self, transport: &Transport<H>) -> bool {
        let has_room = match &self.serving {
            Serving::Bosh(bosh) => bosh.has_room(),
            _ => true,
        };
        has_room && transport.outbound.len() < UNSENT
    }

    fn await_room(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
        match self.serving {
            Serving::Bosh(_) if transport.flags.ended => return self.end_of_input(cx),
            // A client that takes nothing is as good as silent.
            Serving::Nobody => self.enter(Stage::Idle, transport, cx),
            _ => {}
        }
        Next::Keep
    }

    fn lacks_body(&self, transport: &Transport<H>) -> bool {
        let is_missing = self.requests.remaining() > transport.inbound.len() as u64;
        self.stage == Stage::Service && is_missing && !transport.flags.ended
    }

    fn enter(&mut self, stage: Stage, transport: &mut Transport<H>, cx: &Cx<'_, H>) {
        if self.stage == stage {
            return;
        }
        self.stage = stage;
        let config = &transport.listener.config;
        transport.deadline = match (stage, &self.serving) {
            // Its sessions know how long its requests may wait.
            (Stage::New | Stage::Idle, Serving::Bosh(_)) => None,
            (Stage::New | Stage::Idle, _) => Some(cx.deadline(config.idle_timeout)),
            (Stage::Head, _) => Some(cx.deadline(config.head_timeout)),
            (Stage::Body | Stage::Service, _) => Some(cx.deadline(config.body_timeout)),
        };
    }

    /// Answers the request at the front, or has it answered.
    fn serve(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Served<H> {
        match (self.service(transport), &mut self.serving) {
            (Some(Service::Bosh), _) => self.serve_bosh(transport, cx),
            // Whatever is answered otherwise comes when those before it are answered.
            (_, Serving::Bosh(bosh)) => {
                bosh.block();
                Served::Not(Next::Keep)
            }
            (Some(Service::WebSocket), _) => Served::Not(self.upgrade(transport, cx)),
            (None, _) => Served::Not(self.start(transport, cx)),
        }
    }

    /// Asks for a handler.
    fn start(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
        self.serving = Serving::Handler(Attached::new(transport.listener.config.options));
        ask_for_owner(transport, cx, None);
        Next::look_if(transport.may_read() && self.wants_input(transport))
    }

    fn refuse_in_turn(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        error: RequestError,
    ) -> Next<H> {
        match self.serving {
            Serving::Bosh(_) if transport.flags.ended => self.end_of_input(cx),
            Serving::Bosh(_) => Next::Keep,
            _ => refuse(transport, error),
        }
    }

    /// One of the deadlines is over.
    pub(crate) fn on_timeout(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
        transport.deadline = None;
        match (&self.serving, self.stage) {
            (Serving::Handler(_), _) if self.is_starting() => {
                cx.shared.notices.start_timeout(cx.sink, transport.listener.id);
                Next::Gone
            }
            (Serving::Handler(_), _) => Next::Keep,
            // A slow client may be silent because it is still receiving.
            (Serving::Nobody, Stage::New | Stage::Idle) => Next::Close { lingers: false },
            (Serving::Bosh(_), Stage::New | Stage::Idle) => Next::Keep,
            // A refusal would be taken for the answer to a request before it.
            (Serving::Bosh(_), _) => Next::Close { lingers: true },
            (_, Stage::Head) => refuse(transport, RequestError::HeadTimeout),
            // The request of a body that is being discarded has had its answer.
            (_, Stage::Body) if self.requests.is_skipping() => Next::Close { lingers: true },
            (_, Stage::Body | Stage::Service) => refuse(transport, RequestError::BodyTimeout),
        }
    }

    /// Nobody has the connection from here on.
    pub(crate) fn detach(&mut self, cx: &mut Cx<'_, H>) {
        match std::mem::replace(&mut self.serving, Serving::Nobody) {
            Serving::Handler(attached) => attached.detach(cx),
            Serving::Bosh(bosh) => bosh.abandon(cx),
            Serving::Nobody => {}
        }
    }
}

/// Answers bad input and closes.
fn refuse<H: Host>(transport: &mut Transport<H>, error: RequestError) -> Next<H> {
    let mut out = Vec::new();
    error.response(&transport.listener.error_fields, &mut out);
    transport.write_own(&out);
    Next::Close { lingers: true }
}
