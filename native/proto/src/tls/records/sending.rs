//! Records that are sent.

use super::{Records, Update};
use crate::tls::MAX_PLAINTEXT;
use crate::tls::alert::Alert;
use crate::tls::error::SendError;
use crate::tls::header::ContentType;
use crate::tls::{message, seal};
use std::mem;

impl Records {
    /// Appends records with this data, and before them what else was to be written. A record takes at most 16 KB of plaintext, and has
    /// 21 to 29 bytes of its own: who has small writes gathers them.
    ///
    /// On failure, records may have been appended that hold a part of the data; the connection is closed for sending then.
    pub fn send(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), SendError> {
        if !self.may_send() {
            return Err(SendError::Closed);
        }
        self.seal_due(out)?;
        for part in data.chunks(MAX_PLAINTEXT) {
            self.seal_data(part, out)?;
        }
        Ok(())
    }

    /// Says that nothing more will be sent; what was sent before stays valid. The peer may still send. Without effect on a connection
    /// that is closed for sending already.
    pub fn close(&mut self) {
        if self.may_send() {
            self.due.alert = Some(Alert::CLOSE_NOTIFY);
        }
    }

    /// Changes the key of what is sent and, where asked for, has the peer change its own, too (RFC 8446 section 4.6.3). Happens by itself
    /// when a key has sealed as much as it may. Whether it will be done: TLS 1.2 has no such thing.
    pub fn update_keys(&mut self, and_peers: bool) -> bool {
        if !self.suite.is_tls13() || !self.may_send() {
            return false;
        }
        if and_peers {
            self.due.key_update = Some(Update::AndPeers);
        } else {
            self.due.key_update.get_or_insert(Update::Own);
        }
        true
    }

    /// Appends what is to be written beside data: alerts, KeyUpdate; whether there was any. Behind an alert that ends the connection
    /// nothing more is appended.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        // A failure ends sending, which the next call of `send` reports, and `may_send` at once.
        self.is_sending && self.seal_due(out).is_ok() && out.len() > before
    }

    fn seal_due(&mut self, out: &mut Vec<u8>) -> Result<(), SendError> {
        let due = mem::take(&mut self.due);
        let is_failed = due.alert.is_some_and(|alert| alert != Alert::CLOSE_NOTIFY);
        if due.refusal && !is_failed {
            self.seal_alert(Alert::NO_RENEGOTIATION, out)?;
        }
        if let Some(update) = due.key_update.filter(|_| !is_failed) {
            self.seal_key_update(update, out)?;
        }
        if let Some(alert) = due.alert {
            self.seal_alert(alert, out)?;
            self.end_sending();
        }
        Ok(())
    }

    fn seal_data(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), SendError> {
        if self.tx.sequence() >= self.suite.aead.record_limit() {
            if !self.suite.is_tls13() {
                self.close();
                self.seal_due(out)?;
                return Err(SendError::KeyExhausted);
            }
            self.seal_key_update(Update::Own, out)?;
        }
        self.seal(ContentType::ApplicationData, data, out)
    }

    fn seal_key_update(&mut self, update: Update, out: &mut Vec<u8>) -> Result<(), SendError> {
        let message = message::key_update(update == Update::AndPeers);
        self.seal(ContentType::Handshake, &message, out)?;
        self.tx.update(self.suite);
        self.work().sealer = None;
        self.requested = self.requested.saturating_add(u8::from(update == Update::AndPeers));
        Ok(())
    }

    fn seal_alert(&mut self, alert: Alert, out: &mut Vec<u8>) -> Result<(), SendError> {
        self.seal(ContentType::Alert, &[alert.level(), alert.0], out)
    }

    fn seal(&mut self, kind: ContentType, text: &[u8], out: &mut Vec<u8>) -> Result<(), SendError> {
        let work = self.work.get_or_insert_default();
        seal::seal(self.suite, &mut self.tx, &mut work.sealer, kind, text, out).map_err(|seal::Failed| {
            self.end_sending();
            SendError::Internal
        })
    }

    pub(super) fn end_sending(&mut self) {
        self.is_sending = false;
        self.due = Default::default();
        self.tx.clear();
        if let Some(work) = &mut self.work {
            work.sealer = None;
        }
    }
}
