//! Settings of links, and what the two ends tell each other of them.

use super::Secret;
use std::time::Duration;

/// Settings that the links of an ECM or of a node's listener have in common.
#[derive(Clone, Debug)]
pub struct Config {
    /// What this end is called: a node's Erlang name, an ECM's name. 1 to [`MAX_NAME`](super::MAX_NAME) bytes.
    pub name: String,
    /// What both ends know and never send.
    pub secret: Secret,
    /// From the beginning of a connection to the end of its handshake. Default 5 s. Costs a descriptor as long.
    pub handshake_timeout: Duration,
    /// How long a link is kept without a connection. Default 30 s. The shorter one of both ends' counts.
    pub resume_timeout: Duration,
    /// How long nothing may be heard before the peer is asked for a sign of life. Default 10 s.
    pub ping_interval: Duration,
    /// How long nothing may be heard before the connection is given up. Default 30 s.
    pub silence_timeout: Duration,
    /// How long an acknowledgement may wait for others, or for something to go with. Default 200 ms.
    pub ack_delay: Duration,
    /// Bytes that are sent or about to be and not acknowledged: the most memory that a link holds, give or take 128 KB.
    /// Default 4 MiB. It bounds the throughput to as many bytes a round trip.
    pub resend_bytes: usize,
    /// Bytes of streams that may wait to be sent. Default 256 KB. What a stream sends waits behind as many.
    pub unsent_bytes: usize,
    /// Bytes of data in a frame that this end takes and sends, 1,024 to 65,535. Default 16,384.
    pub max_payload: u16,
    /// Bytes that the peer may send on a new stream before it is granted any. Default 8,192.
    pub initial_credit: u32,
    /// Streams that a link may have, counting those of which one end has not yet taken leave. Default 1,048,576. Each takes
    /// 24 bytes here.
    pub max_streams: u32,
}

impl Config {
    /// The default settings.
    pub fn new(name: &str, secret: Secret) -> Self {
        Self {
            name: name.to_owned(),
            secret,
            handshake_timeout: Duration::from_secs(5),
            resume_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(30),
            ack_delay: Duration::from_millis(200),
            resend_bytes: 4 << 20,
            unsent_bytes: 256 << 10,
            max_payload: 16_384,
            initial_credit: 8_192,
            max_streams: 1 << 20,
        }
    }

    /// Whether links can work with these settings. No machine is made without asking.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() || self.name.len() > super::MAX_NAME {
            return Err(ConfigError::Name);
        }
        if self.max_payload < Params::LEAST_PAYLOAD {
            return Err(ConfigError::MaxPayload);
        }
        if self.resend_bytes < 4 * usize::from(self.max_payload) {
            return Err(ConfigError::ResendBytes);
        }
        if self.unsent_bytes == 0 {
            return Err(ConfigError::UnsentBytes);
        }
        if self.initial_credit > super::frame::MAX_CREDIT {
            return Err(ConfigError::InitialCredit);
        }
        Ok(())
    }

    /// What the peer has to know of them.
    pub fn params(&self) -> Params {
        Params {
            max_payload: self.max_payload,
            initial_credit: self.initial_credit,
            max_streams: self.max_streams,
            resend_bytes: u32::try_from(self.resend_bytes).unwrap_or(u32::MAX),
            resume_seconds: u16::try_from(self.resume_timeout.as_secs()).unwrap_or(u16::MAX),
        }
    }
}

/// A setting that links can't work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// `name` is empty or longer than [`MAX_NAME`](super::MAX_NAME).
    Name,
    /// `max_payload` is below 1,024.
    MaxPayload,
    /// `resend_bytes` is below four times `max_payload`.
    ResendBytes,
    /// `unsent_bytes` is 0.
    UnsentBytes,
    /// `initial_credit` is above 2,147,483,647.
    InitialCredit,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Name => "name has to have 1 to 128 bytes",
            Self::MaxPayload => "max_payload has to be at least 1024",
            Self::ResendBytes => "resend_bytes has to be at least four times max_payload",
            Self::UnsentBytes => "unsent_bytes has to be at least 1",
            Self::InitialCredit => "initial_credit has to be below 2147483648",
        })
    }
}

impl std::error::Error for ConfigError {}

/// What one end tells the other of its settings. Those of a link's first connection hold for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Bytes of data in a frame that it takes.
    pub max_payload: u16,
    /// Bytes that may be sent to it on a new stream.
    pub initial_credit: u32,
    /// Numbers of streams that it takes are below this.
    pub max_streams: u32,
    /// Bytes that it keeps until they are acknowledged: the other end has to acknowledge before there are as many.
    pub resend_bytes: u32,
    /// Seconds for which it keeps a link without a connection.
    pub resume_seconds: u16,
}

impl Params {
    /// What every end takes in a frame.
    pub(super) const LEAST_PAYLOAD: u16 = 1024;
    pub(super) const LEN: usize = 16;

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.max_payload.to_be_bytes());
        out.extend_from_slice(&self.initial_credit.to_be_bytes());
        out.extend_from_slice(&self.max_streams.to_be_bytes());
        out.extend_from_slice(&self.resend_bytes.to_be_bytes());
        out.extend_from_slice(&self.resume_seconds.to_be_bytes());
    }

    /// None when no link could work with them.
    pub(super) fn decode(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
        let params = Self {
            max_payload: u16::from_be_bytes([a, b]),
            initial_credit: u32::from_be_bytes([c, d, e, f]),
            max_streams: u32::from_be_bytes([g, h, i, j]),
            resend_bytes: u32::from_be_bytes([k, l, m, n]),
            resume_seconds: u16::from_be_bytes([o, p]),
        };
        let works =
            params.max_payload >= Self::LEAST_PAYLOAD && params.initial_credit <= super::frame::MAX_CREDIT;
        works.then_some(params)
    }
}
