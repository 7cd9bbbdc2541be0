//! Settings of streams, and the bounds that follow from them.

use crate::xmpp::Limits;
use std::time::Duration;

/// Settings that the streams of a listener have in common.
#[derive(Clone, Debug)]
pub struct Config {
    /// The host that stream errors come from when the client did not get as far as naming one.
    pub from: String,
    /// The language of such errors.
    pub lang: String,
    /// From the beginning of a connection (or the upgrade of one) to a complete stream header. Default 120 s.
    pub header_timeout: Duration,
    /// From the first byte of a stanza to its last, not restarted by a byte; where there is a rate, and as long as the
    /// longest stanza takes at it. Default 300 s. Costs as much memory as the stanza may have bytes while it is
    /// waited for.
    pub stanza_timeout: Duration,
    /// Bytes of one stanza; as many are already too many. Default 262,144. Before login at most 65,536.
    pub max_stanza: usize,
    /// How long a WebSocket may be silent before it is pinged; none is never. Default 60 s.
    pub ping_interval: Option<Duration>,
    /// How long a WebSocket may be silent before it is closed. Default 300 s.
    pub websocket_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            from: String::from("localhost"),
            lang: String::from("en"),
            header_timeout: Duration::from_secs(120),
            stanza_timeout: Duration::from_secs(300),
            max_stanza: 262_144,
            ping_interval: Some(Duration::from_secs(60)),
            websocket_timeout: Duration::from_secs(300),
        }
    }
}

/// How fast a peer may send, in bytes a second, and how many bytes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes a second, at least 1.
    pub bytes_per_second: u32,
    /// Bytes that may come at once after a pause, at least 1.
    pub burst: u32,
}

impl Config {
    /// What a peer may send, which is less before it has logged in.
    pub(super) fn limits(&self, is_logged_in: bool) -> Limits {
        if is_logged_in {
            Limits { stanza_bytes: self.max_stanza, ..Limits::default() }
        } else {
            Limits::before_login(self.max_stanza)
        }
    }
}
