//! What rustls tells of a connection through its key log and its certificate resolver, and nowhere else.
//!
//! With a connection's keys it hands over a boxed state that can make the next ones: 224 bytes of heap memory, and 688 of struct. The
//! two traffic secrets that this state is about are 96, and go through the key log.

use super::suite::MAX_HASH;
use rustls::KeyLog;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroize;

/// A key log of one connection, which keeps what that connection's records need.
#[derive(Default)]
pub(super) struct Capture(Mutex<Captured>);

/// Facts of one connection. The secrets are empty until its handshake has them, and in TLS 1.2; they are cleared when dropped.
#[derive(Default)]
pub(super) struct Captured {
    pub(super) client: Secret,
    pub(super) server: Secret,
    pub(super) exporter: Secret,
    /// What the client called the server (SNI).
    pub(super) server_name: Option<Box<str>>,
}

/// A secret as long as its hash.
pub(super) struct Secret {
    bytes: [u8; MAX_HASH],
    len: usize,
}

impl Capture {
    pub(super) fn lock(&self) -> MutexGuard<'_, Captured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Captured {
    fn slot(&mut self, label: &str) -> Option<&mut Secret> {
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => Some(&mut self.client),
            "SERVER_TRAFFIC_SECRET_0" => Some(&mut self.server),
            "EXPORTER_SECRET" => Some(&mut self.exporter),
            _ => None,
        }
    }
}

impl KeyLog for Capture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if let Some(slot) = self.lock().slot(label) {
            slot.set(secret);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        self.lock().slot(label).is_some()
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Capture") // No secrets.
    }
}

impl Secret {
    pub(super) fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Keeps nothing of what is longer than any hash here; the check of the keys that come from it then fails.
    fn set(&mut self, secret: &[u8]) {
        self.bytes.zeroize();
        self.len = 0;
        if let Some(bytes) = self.bytes.get_mut(..secret.len()) {
            bytes.copy_from_slice(secret);
            self.len = secret.len();
        }
    }
}

impl Default for Secret {
    fn default() -> Self {
        Self { bytes: [0; MAX_HASH], len: 0 }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// A certificate resolver that notes which name was asked for. rustls asks it in each handshake, a resumed one too.
#[derive(Debug)]
pub(super) struct Naming {
    pub(super) resolver: Arc<dyn ResolvesServerCert>,
    pub(super) capture: Arc<Capture>,
}

impl ResolvesServerCert for Naming {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.capture.lock().server_name = hello.server_name().map(Box::from);
        self.resolver.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.resolver.only_raw_public_keys()
    }
}
