//! What goes out: the sequence's frames in order, and between them those that are about the connection.

use super::PeerError;
use super::frame::{End, HEADER, Kind, header};
use super::resend::Resend;
use crate::time::Time;

/// The sending side of a link. Frames of the connection come only where one of the sequence ends.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    resend: Resend,
    /// How far the sequence was written.
    sent: u64,
    /// How far it was handed out, up to the end of a frame.
    burst_end: u64,
    control: Vec<u8>,
    written: usize,
    pub(super) wants_ping: bool,
    pub(super) owes_pong: bool,
    /// Nothing follows it.
    pub(super) end: Option<End>,
    is_end_said: bool,
    /// How much of the peer's sequence it was told that we have.
    told: u64,
    ack_at: Option<Time>,
    is_ack_due: bool,
}

impl Outbound {
    /// Bytes that are kept.
    pub(super) fn len(&self) -> usize {
        self.resend.len()
    }

    /// Bytes that are still to be written.
    pub(super) fn unsent(&self) -> usize {
        (self.resend.end() - self.sent) as usize
    }

    pub(super) fn commit(&mut self, kind: Kind, stream: u32, body: &[u8]) {
        // Bodies are within the bounds of their kinds.
        self.resend.push(&header(kind, stream, body.len() as u16), body);
    }

    /// The peer has received so much.
    pub(super) fn acknowledged(&mut self, place: u64) -> Result<(), PeerError> {
        if !self.may_have_received(place) {
            return Err(PeerError::BadAck);
        }
        self.resend.release(place);
        Ok(())
    }

    pub(super) fn may_have_received(&self, place: u64) -> bool {
        (self.resend.start()..=self.sent).contains(&place)
    }

    /// The connection is gone, and with it what is about it.
    pub(super) fn cut(&mut self) {
        self.control.clear();
        self.written = 0;
        (self.wants_ping, self.owes_pong) = (false, false);
        (self.ack_at, self.is_ack_due) = (None, false);
    }

    /// A new connection, whose handshake has said what either end has received.
    pub(super) fn resume(&mut self, peer_received: u64, received: u64) {
        self.resend.release(peer_received);
        self.sent = peer_received;
        self.burst_end = self.resend.boundary_after(peer_received);
        self.told = received;
    }

    /// So much was received of the peer's sequence.
    pub(super) fn received(&mut self, received: u64, most: u64, at: Time) {
        if received - self.told >= most {
            self.is_ack_due = true;
        } else if received > self.told && self.ack_at.is_none() {
            self.ack_at = Some(at);
        }
    }

    pub(super) fn ack_at(&self) -> Option<Time> {
        self.ack_at
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        if self.ack_at.take_if(|at| *at <= now).is_some() {
            self.is_ack_due = true;
        }
    }

    /// What is to be written, in this order; `received` goes along where it is news.
    pub(super) fn transmit(&mut self, received: u64) -> [&[u8]; 3] {
        if self.sent == self.burst_end && self.control.is_empty() {
            self.burst_end =
                if self.end.is_some() { self.sent } else { self.resend.boundary_after(self.sent) };
            self.write_control(received);
        }
        let [first, second] = self.resend.slices(self.sent, self.burst_end);
        [&self.control[self.written..], first, second]
    }

    /// So many of the bytes that [`transmit`](Self::transmit) has given last were written.
    pub(super) fn written(&mut self, bytes: usize) {
        let control = bytes.min(self.control.len() - self.written);
        self.written += control;
        if self.written == self.control.len() {
            self.control.clear();
            self.written = 0;
        }
        self.sent = self.burst_end.min(self.sent + (bytes - control) as u64);
    }

    fn write_control(&mut self, received: u64) {
        if std::mem::take(&mut self.owes_pong) {
            self.control.extend_from_slice(&header(Kind::Pong, 0, 0));
        }
        if std::mem::take(&mut self.wants_ping) {
            self.control.extend_from_slice(&header(Kind::Ping, 0, 0));
        }
        let has_company = self.burst_end > self.sent || !self.control.is_empty();
        if received > self.told && (self.is_ack_due || has_company) {
            self.control.extend_from_slice(&header(Kind::Ack, 0, 8));
            self.control.extend_from_slice(&received.to_be_bytes());
            self.told = received;
            (self.ack_at, self.is_ack_due) = (None, false);
        }
        if let Some(end) = self.end.filter(|_| !self.is_end_said) {
            self.is_end_said = true;
            self.control.extend_from_slice(&header(Kind::End, 0, 1));
            self.control.push(end.code());
        }
    }
}

/// Bytes that a frame takes.
pub(super) fn frame_len(body: usize) -> usize {
    HEADER + body
}
