//! Request mode without a handler: collecting a request, refusing one, parking.

use super::*;

impl<H: Host> Connection<H> {
    pub(super) fn settle_waiting(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let is_known = self.phase == Phase::Waiting(Stage::Service) && self.is_body_missing();
        let stage = match self.advance() {
            // Its head was read before, and need not be for each byte that comes.
            Some(Progress::Ready) if is_known && !self.flags.ended => return Fate::Keep,
            Some(Progress::Ready) => {
                return match self.service() {
                    Some(service) => self.serve_request(cx, service),
                    None => self.start(cx),
                };
            }
            Some(Progress::Refused(error)) => return self.refuse(cx, error),
            None => return Fate::Gone,
            // What a peer that has closed its side is still receiving is its own.
            Some(_) if self.flags.ended => return self.begin_close(cx, false),
            Some(Progress::Idle) => Stage::Idle,
            Some(Progress::Head) => Stage::Head,
            Some(Progress::Body { send_continue }) => {
                if send_continue {
                    self.write_own(CONTINUE);
                }
                Stage::Body
            }
        };
        if self.phase != Phase::Waiting(stage) {
            self.phase = Phase::Waiting(stage);
            let config = &self.listener.config;
            self.deadline = cx.system.deadline(match stage {
                Stage::New | Stage::Idle => config.idle_timeout,
                Stage::Head => config.head_timeout,
                Stage::Body | Stage::Service => config.body_timeout,
            });
        }
        Fate::Keep
    }

    /// Where the sequence of requests stands. None outside of request mode.
    pub(super) fn advance(&mut self) -> Option<Progress> {
        let Engine::Http(requests) = &mut self.engine else { return None };
        let progress = requests.advance(&mut self.inbound, &self.listener.config.limits);
        self.release_inbound();
        Some(progress)
    }

    /// Answers bad input and closes.
    pub(super) fn refuse(&mut self, cx: &mut Cx<'_, H>, error: RequestError) -> Fate {
        self.write_own(error.response());
        self.begin_close(cx, true)
    }

    /// A handler at a request boundary waited in vain: the connection goes on without it. False when there
    /// is something for it after all.
    pub(crate) fn park(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> Result<(bool, Fate), Error> {
        let (Some(attached), Some(requests)) = (&self.attached, self.requests()) else {
            return Err(Error::Closed);
        };
        let is_for_another = attached.reader.as_ref().is_some_and(|reader| reader.process != process);
        if is_for_another || requests.remaining() > 0 {
            return Ok((false, Fate::Keep));
        }
        if matches!(self.advance(), Some(Progress::Ready | Progress::Refused(_))) {
            return Ok((false, Fate::Keep));
        }
        // The wake-up of its own wait would come late.
        self.cancel_wait(process);
        Ok((true, self.take_back(cx)))
    }

    /// The connection goes on without a handler.
    pub(super) fn take_back(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        self.detach(cx);
        self.phase = Phase::Waiting(Stage::New);
        if self.flags.ended || !self.inbound.is_empty() {
            // The next request may take long, and this may be a scheduler's thread.
            return Fate::Look;
        }
        match self.settle(cx) {
            // Reading may have stopped at the handler's watermark.
            Fate::Keep => self.look_if_room(),
            fate => fate,
        }
    }
}
