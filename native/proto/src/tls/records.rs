//! An established connection: records in, data and events out, and the other way.

mod receiving;
mod sending;
#[cfg(test)]
mod tests;

use super::MAX_PLAINTEXT;
use super::alert::Alert;
use super::binding::{Binding, ChannelBinding};
use super::cipher::{self, Cipher};
use super::error::Error;
use super::keys::Keys;
use super::message::Messages;
use super::seal;
use super::suite::{Side, Suite};

/// What the peer did.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Data, never none, opened in place where it arrived.
    Data(&'a mut [u8]),
    /// The peer sends nothing more, and said so. It may still read. The last event.
    Closed,
    /// Nothing more of what arrives is looked at, and nothing more is sent but an alert. The last event.
    Failed(Error),
}

/// One end of a connection after its handshake.
///
/// Calling protocol: pass what was received to [`handle_input`](Self::handle_input), again and again until it returns no event. Then,
/// and after every other request, write what [`poll_transmit`](Self::poll_transmit) appends. [`send`](Self::send) appends records at
/// once. When the carrier ends, [`handle_eof`](Self::handle_eof) says whether that is all there was.
///
/// Takes 280 bytes. Heap memory is held only while a record is half received (then what was received of it), and for cipher contexts
/// (640 bytes each) from the first record in a direction until [`rest`](Self::rest). Keys are cleared when dropped, and as soon as
/// their direction has ended.
pub struct Records {
    rx: Keys,
    tx: Keys,
    binding: Binding,
    work: Option<Box<Work>>,
    messages: Messages,
    suite: Suite,
    side: Side,
    is_receiving: bool,
    is_sending: bool,
    has_refused_renegotiation: bool,
    without_data: u8,
    /// KeyUpdates that the peer was asked for and has not sent.
    requested: u8,
    due: Due,
}

/// What is to be sealed before anything else. Nothing is sealed before it can be written, so floods of requests meet in one answer.
#[derive(Debug, Default)]
struct Due {
    refusal: bool,
    key_update: Option<Update>,
    alert: Option<Alert>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Update {
    Own,
    AndPeers,
}

/// What there is to hold while bytes flow.
#[derive(Default)]
struct Work {
    opener: Option<Cipher>,
    sealer: Option<Cipher>,
    /// A record that is half received, or was opened for the event that the owner looks at.
    record: Vec<u8>,
    is_opened: bool,
}

impl Records {
    /// An established connection, from its keys.
    pub(super) fn new(suite: Suite, side: Side, rx: Keys, tx: Keys, binding: Binding) -> Self {
        Self {
            rx,
            tx,
            binding,
            work: None,
            messages: Messages::default(),
            suite,
            side,
            is_receiving: true,
            is_sending: true,
            has_refused_renegotiation: false,
            without_data: 0,
            requested: 0,
            due: Due::default(),
        }
    }

    /// An established connection from bare secrets, as a test, a tool, or another implementation's handshake has them: of TLS 1.3 the
    /// traffic secrets, of TLS 1.2 key and nonce (12 bytes) in one. Each direction comes with its next record's number. `None` when a
    /// length is not the suite's. Without channel binding.
    pub fn from_secrets(
        suite: Suite,
        side: Side,
        client: (&[u8], u64),
        server: (&[u8], u64),
    ) -> Option<Self> {
        let client = Keys::from_bare(suite, client.0)?.renumbered(client.1);
        let server = Keys::from_bare(suite, server.0)?.renumbered(server.1);
        let (rx, tx) = match side {
            Side::Server => (client, server),
            Side::Client => (server, client),
        };
        Some(Self::new(suite, side, rx, tx, Binding::None))
    }

    /// Version and cipher.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// What SASL binds an authentication to.
    pub fn channel_binding(&self) -> Option<ChannelBinding<'_>> {
        self.binding.get()
    }

    /// Bytes of heap memory held.
    pub fn heap_bytes(&self) -> usize {
        let Some(work) = &self.work else { return 0 };
        let ciphers = usize::from(work.opener.is_some()) + usize::from(work.sealer.is_some());
        size_of::<Work>() + work.record.capacity() + ciphers * cipher::HEAP
    }

    /// Whether no record is half received. A peer owes the rest of what is.
    pub fn is_between_records(&self) -> bool {
        self.work.as_ref().is_none_or(|work| work.record.is_empty() || work.is_opened)
    }

    /// Whether data can be sent.
    pub fn may_send(&self) -> bool {
        self.is_sending && self.due.alert.is_none()
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) has something to append.
    pub fn wants_to_transmit(&self) -> bool {
        self.is_sending && (self.due.alert.is_some() || self.due.key_update.is_some() || self.due.refusal)
    }

    /// Bytes on the wire of so many bytes of data that are sent in one call.
    pub fn sealed_len(&self, data: usize) -> usize {
        data + data.div_ceil(MAX_PLAINTEXT) * seal::overhead(self.suite)
    }

    /// Drops the cipher contexts, and the room of a record that was opened. They are made again (some 150 ns each) when bytes flow.
    /// For a connection whose input is drained and whose output is written.
    pub fn rest(&mut self) {
        let Some(work) = &mut self.work else { return };
        (work.opener, work.sealer) = (None, None);
        self.release_record();
        self.work.take_if(|work| work.record.is_empty());
    }

    fn work(&mut self) -> &mut Work {
        self.work.get_or_insert_default()
    }

    /// The bytes of a record, once the owner has seen its data.
    fn release_record(&mut self) {
        if let Some(work) = self.work.as_mut().filter(|work| work.is_opened) {
            work.record = Vec::new();
            work.is_opened = false;
        }
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No keys.
        let Self { suite, side, is_receiving, is_sending, .. } = self;
        write!(f, "Records({suite:?}, {side:?}, receiving: {is_receiving}, sending: {is_sending})")
    }
}
