//! Bytes, from clients to links and back.
//!
//! A client is read when its stream has its turn: when the node grants credit and the link has room. So nothing of a client's is kept
//! here, and TCP tells it to wait. What the node sends is written to the client at once; what the socket does not take is
//! kept, and as only what has left is granted again, that is at most the initial credit.

use super::client::{Flags, Phase};
use super::slab::Key;
use super::state::Worker;
use super::uplink::Connection;
use crate::net;
use megaphone_proto::link::Reason;
use rustix::io::Errno;
use std::io::IoSlice;

/// Clients that are read for one link before others have their turn.
const VISITS: usize = 1024;
/// Bytes that are written to one link before others have their turn.
const WRITTEN: usize = 1 << 20;
/// Reads of a client whose bytes nobody wants, a turn.
const DISCARDS: usize = 4;

impl Worker {
    // --- from clients

    /// An event of a client's socket.
    pub(super) fn handle_client(&mut self, key: Key, event: &mio::event::Event) {
        if !self.clients.has(key) {
            return;
        }
        if event.is_error() {
            self.break_off(key.slot);
            return;
        }
        if event.is_writable() {
            self.flush_client(key.slot);
        }
        if let Some(client) = self.clients.get_mut(key.slot)
            && (event.is_readable() || event.is_read_closed())
        {
            client.set(Flags::READABLE, true);
            client.set(Flags::HUNG_UP, client.is(Flags::HUNG_UP) || event.is_read_closed());
            self.look_at(key);
        }
    }

    /// A client may have something to read.
    pub(super) fn look_at(&mut self, key: Key) {
        let Some(client) = self.clients.get(key.slot).filter(|_| self.clients.has(key)) else { return };
        if !client.is(Flags::READABLE) {
            return;
        }
        match client.phase {
            Phase::Header => self.read_header(key.slot),
            Phase::Waiting => {}
            Phase::Carried => self.want_to_send(key.slot),
            Phase::Kept => self.wake(key),
            Phase::Leaving => self.discard(key),
        }
    }

    fn want_to_send(&mut self, slot: u32) {
        let Some(client) = self.clients.get(slot) else { return };
        if let Some(Some(uplink)) = self.links.get_mut(usize::from(client.link))
            && let Some(link) = &mut uplink.link
        {
            link.want_to_send(client.stream);
        }
    }

    /// Reads clients whose turn it is. Whether there may be more.
    fn pump(&mut self, at: usize) -> bool {
        for _ in 0..VISITS {
            let Some(Some(uplink)) = self.links.get_mut(at) else { return false };
            let Some((stream, most)) = uplink.link.as_mut().and_then(|link| link.poll_ready()) else {
                return false;
            };
            if let Some(slot) = uplink.client(stream) {
                self.read_client(at, slot, stream, most);
            }
        }
        true
    }

    fn read_client(&mut self, at: usize, slot: u32, stream: u32, most: usize) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let most = most.min(self.buffer.len());
        match net::read(&client.socket, &mut self.buffer[..most]) {
            Ok(0) => self.client_ended(slot),
            Ok(read) => {
                client.received += read as u64;
                client.set(Flags::UNANSWERED, true);
                let goes_on = read == most || client.is(Flags::HUNG_UP);
                client.set(Flags::READABLE, goes_on);
                self.counts.received += read as u64;
                self.send_data(at, slot, stream, read, goes_on);
            }
            Err(Errno::AGAIN) => client.set(Flags::READABLE, false),
            Err(_) => self.break_off(slot),
        }
    }

    fn send_data(&mut self, at: usize, slot: u32, stream: u32, read: usize, goes_on: bool) {
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        let Some(link) = &mut uplink.link else { return };
        if let Err(error) = link.send_data(stream, &self.buffer[..read]) {
            // It has just said that it takes as much.
            tracing::error!(?error, "a link did not take what it asked for: the client is closed");
            self.break_off(slot);
        } else if goes_on {
            link.want_to_send(stream);
        }
    }

    /// The client has sent all.
    fn client_ended(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        client.set(Flags::READABLE, false);
        client.set(Flags::CLIENT_EOF, true);
        if let Some(Some(uplink)) = self.links.get_mut(usize::from(client.link))
            && let Some(link) = &mut uplink.link
        {
            link.close(client.stream, Reason::Eof);
        }
        self.flushed(slot, Ok(0));
    }

    /// What a client sends that is taken leave of is read, so that closing does not reset what it was sent last.
    fn discard(&mut self, key: Key) {
        for _ in 0..DISCARDS {
            let Some(client) = self.clients.get_mut(key.slot) else { return };
            match net::read(&client.socket, &mut self.buffer) {
                Ok(0) => {
                    client.set(Flags::READABLE, false);
                    client.set(Flags::CLIENT_EOF, true);
                    self.flushed(key.slot, Ok(0));
                    return;
                }
                Ok(_) => {}
                Err(Errno::AGAIN) => {
                    client.set(Flags::READABLE, false);
                    return;
                }
                Err(_) => {
                    self.break_off(key.slot);
                    return;
                }
            }
        }
        self.again.push(key);
    }

    // --- to clients

    /// Bytes of a stream.
    pub(super) fn deliver(&mut self, at: usize, stream: u32, bytes: &[u8]) {
        let Some(slot) = self.client_of(at, stream) else { return };
        let Some(client) = self.clients.get_mut(slot) else { return };
        client.set(Flags::UNANSWERED, false);
        let written = client.send(bytes);
        self.flushed(slot, written);
    }

    fn flush_client(&mut self, slot: u32) {
        if let Some(client) = self.clients.get_mut(slot).filter(|client| !client.is_flushed()) {
            let written = client.flush();
            self.flushed(slot, written);
        }
    }

    /// The node sends no more on a stream.
    pub(super) fn node_ended(&mut self, at: usize, stream: u32) {
        let Some(slot) = self.client_of(at, stream) else { return };
        if let Some(client) = self.clients.get_mut(slot) {
            client.set(Flags::NODE_EOF, true);
            self.flushed(slot, Ok(0));
        }
    }

    /// The node has taken leave of a stream.
    pub(super) fn node_closed(&mut self, at: usize, stream: u32, reason: Reason) {
        let Some(slot) = self.client_of(at, stream) else { return };
        self.close_stream(slot, Reason::Closed);
        match reason {
            Reason::Reset | Reason::Refused => self.break_off(slot),
            Reason::Eof | Reason::Closed | Reason::Policy | Reason::Overload => self.leave(slot),
        }
    }

    pub(super) fn client_of(&self, at: usize, stream: u32) -> Option<u32> {
        self.links.get(at)?.as_ref()?.client(stream)
    }

    // --- to links

    /// Reads clients whose turn it is, and writes what the link has, until one of them has no more.
    pub(super) fn serve_link(&mut self, at: usize) {
        let mut written = 0;
        loop {
            let has_more = self.pump(at);
            let now = self.transmit(at);
            written += now;
            if now == 0 && !has_more {
                return;
            }
            if written >= WRITTEN || has_more && now == 0 {
                self.is_busy = true;
                return;
            }
        }
    }

    /// Writes what there is, as far as the connection takes it. How much that was.
    fn transmit(&mut self, at: usize) -> usize {
        let mut total = 0;
        while let Some(Some(uplink)) = self.links.get_mut(at) {
            let (Connection::Up { socket }, Some(link)) = (&uplink.connection, &mut uplink.link) else {
                break;
            };
            if !uplink.writable || total >= WRITTEN {
                break;
            }
            let pieces = link.poll_transmit();
            if pieces.iter().all(|piece| piece.is_empty()) {
                break;
            }
            match net::write_all(socket, &pieces.map(IoSlice::new)) {
                Ok(written) => {
                    link.written(written);
                    total += written;
                }
                Err(Errno::AGAIN) => uplink.writable = false,
                Err(_) => {
                    self.cut(at);
                    break;
                }
            }
        }
        self.may_place |= total > 0;
        total
    }
}
