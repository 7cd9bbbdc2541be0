//! What a peer's frames mean.

use super::Link;
use crate::link::decoder::Frame;
use crate::link::event::{Event, Side};
use crate::link::frame::{MAX_CREDIT, Reason};
use crate::link::table::{Flag, Queue, Stream};
use crate::link::{Cause, Open, PeerError};

impl Link {
    pub(super) fn handle_frame<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, PeerError> {
        match frame {
            Frame::Open(number, open) => return self.handle_open(number, open).map(Some),
            Frame::Start(number, length) => self.handle_start(number, length)?,
            Frame::Data(number, bytes) => return Ok(self.handle_data(number, bytes)),
            Frame::Close(number, reason) => return self.handle_close(number, reason),
            Frame::Credit(number, bytes) => self.handle_credit(number, bytes)?,
            Frame::GoAway(reason) => {
                self.peer_goes = true;
                return Ok(Some(Event::GoAway(reason)));
            }
            Frame::Ack(place) => self.outbound.acknowledged(place)?,
            Frame::Ping => self.outbound.owes_pong = true,
            Frame::Pong => {}
            Frame::End(end) => self.lose(Cause::EndedByPeer(end)),
        }
        Ok(None)
    }

    fn handle_open<'a>(&mut self, number: u32, open: Box<Open>) -> Result<Event<'a>, PeerError> {
        if self.side == Side::Ecm || self.peer_goes {
            return Err(PeerError::MayNotOpen);
        }
        if number >= self.streams.most() {
            return Err(PeerError::TooManyStreams(number));
        }
        if self.streams.get(number).is_some() {
            return Err(PeerError::StreamInUse(number));
        }
        self.streams.insert(number, self.new_stream());
        Ok(Event::Opened(number, open))
    }

    fn handle_start(&mut self, number: u32, length: u32) -> Result<(), PeerError> {
        let stream = self.peers(number)?;
        if stream.is(Flag::PEER_EOF) {
            return Err(PeerError::AfterClose(number));
        }
        let left = stream.allowance.checked_sub(length);
        stream.allowance = left.ok_or(PeerError::CreditExceeded(number))?;
        Ok(())
    }

    /// Data for a stream that our owner has taken leave of was under way.
    fn handle_data<'a>(&mut self, number: u32, bytes: &'a [u8]) -> Option<Event<'a>> {
        let stream = self.streams.get(number)?;
        (!stream.is(Flag::CLOSED)).then_some(Event::Data(number, bytes))
    }

    fn handle_close<'a>(&mut self, number: u32, reason: Reason) -> Result<Option<Event<'a>>, PeerError> {
        let stream = self.peers(number)?;
        if reason == Reason::Eof && stream.is(Flag::PEER_EOF) {
            return Err(PeerError::AfterClose(number));
        }
        stream.set(Flag::PEER_EOF, true);
        let is_known = stream.is(Flag::CLOSED);
        if reason == Reason::Eof {
            return Ok((!is_known).then_some(Event::Eof(number)));
        }
        stream.set(Flag::PEER_CLOSED, true);
        stream.set(Flag::WANTS, false);
        stream.grant = 0;
        if stream.is_gone() {
            self.streams.remove(number);
        }
        Ok((!is_known).then_some(Event::Closed(number, reason)))
    }

    fn handle_credit(&mut self, number: u32, bytes: u32) -> Result<(), PeerError> {
        let stream = self.peers(number)?;
        let credit = stream.credit.checked_add(bytes).filter(|credit| *credit <= MAX_CREDIT);
        stream.credit = credit.ok_or(PeerError::BadCredit(number))?;
        if stream.is(Flag::WANTS) {
            self.streams.push(Queue::Ready, number);
        }
        Ok(())
    }

    /// A stream of which the peer has not taken leave.
    fn peers(&mut self, number: u32) -> Result<&mut Stream, PeerError> {
        let stream = self.streams.get_mut(number).ok_or(PeerError::UnknownStream(number))?;
        if stream.is(Flag::PEER_CLOSED) { Err(PeerError::AfterClose(number)) } else { Ok(stream) }
    }
}
