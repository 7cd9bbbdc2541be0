//! Alerts (RFC 8446 section 6, RFC 5246 section 7.2).

/// Why a connection ends, in one byte. Any value may arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Alert(pub u8);

pub(super) const WARNING: u8 = 1;
pub(super) const FATAL: u8 = 2;

impl Alert {
    /// The sender sends nothing more.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// A message of a kind, or at a time, that the protocol does not allow.
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    /// A record that was not sealed by the peer, or not in this order.
    pub const BAD_RECORD_MAC: Self = Self(20);
    /// A record longer than the bound.
    pub const RECORD_OVERFLOW: Self = Self(22);
    /// A field with a value that is not allowed.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// A message that cannot be read.
    pub const DECODE_ERROR: Self = Self(50);
    /// A record of another version of the protocol.
    pub const PROTOCOL_VERSION: Self = Self(70);
    /// We failed.
    pub const INTERNAL_ERROR: Self = Self(80);
    /// The peer's user has given up; close_notify follows.
    pub const USER_CANCELED: Self = Self(90);
    /// The answer to a wish for another handshake; a warning always.
    pub const NO_RENEGOTIATION: Self = Self(100);

    /// The name in the RFCs, for the log.
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            100 => "no_renegotiation",
            109 => "missing_extension",
            112 => "unrecognized_name",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => "unknown alert",
        }
    }

    /// The level it is sent with.
    pub(super) fn level(self) -> u8 {
        match self {
            Self::CLOSE_NOTIFY | Self::USER_CANCELED | Self::NO_RENEGOTIATION => WARNING,
            _ => FATAL,
        }
    }
}

impl std::fmt::Debug for Alert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Alert({}, {})", self.0, self.name())
    }
}
