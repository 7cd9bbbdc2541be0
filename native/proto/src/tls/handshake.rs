//! A handshake, made by rustls, up to the byte where our records begin.

use super::capture::{Capture, Naming};
use super::convert::{self, ConvertError, Finished};
use super::header::{ContentType, HEADER};
use super::records::Records;
use super::suite::Side;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState, Error, ExtractedSecrets, ServerConfig};
use std::fmt;
use std::mem;
use std::sync::Arc;

/// An end's connection in rustls.
pub trait Endpoint: Sized {
    /// What rustls keeps for this end.
    type Data;
    /// Which end it is.
    const SIDE: Side;
    #[doc(hidden)]
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    #[doc(hidden)]
    fn common(&self) -> &CommonState;
    #[doc(hidden)]
    fn into_secrets(self) -> Result<ExtractedSecrets, Error>;
}

/// A handshake under way. Holds some 8 KB.
///
/// Calling protocol: [`handle_input`](Self::handle_input) with what was received, then write what
/// [`poll_transmit`](Self::poll_transmit) appends, until [`is_complete`](Self::is_complete) and all is written to the connection or
/// queued; then [`finish`](Self::finish). After an error what there is to transmit is an alert. Deadlines are the owner's.
///
/// rustls is given one record at a time, so that it never gets one that belongs to [`Records`]: what the client sends behind its last
/// handshake message stays in the owner's input. A server's session tickets are rustls' last records, and part of the output before
/// the handshake is complete.
///
/// Computes for 50 to 2000 us within `handle_input` (signatures, key exchange): not a reactor's work.
pub struct Handshake<C> {
    connection: C,
    capture: Arc<Capture>,
    /// The record that is next, and those before it that rustls has not let go of. rustls bounds a message by 64 KB.
    input: Vec<u8>,
    /// Where the record begins that is half received.
    record_start: usize,
    out: Vec<u8>,
    watch: Watch,
    is_complete: bool,
    is_failed: bool,
}

/// Looks for the first Finished message of TLS 1.2: the record behind the first ChangeCipherSpec.
#[derive(Default)]
struct Watch {
    changed: Option<Side>,
    finished: Option<Finished>,
}

/// A connection after its handshake, and what the handshake said.
#[derive(Debug)]
pub struct Established {
    /// What goes on with it.
    pub records: Records,
    /// The protocol that both ends agreed on (ALPN).
    pub alpn: Option<Vec<u8>>,
    /// At a server, the name that the client asked for (SNI); lower case, no address.
    pub server_name: Option<Box<str>>,
    /// The peer's certificates, its own first.
    pub peer_certificates: Option<Vec<rustls::pki_types::CertificateDer<'static>>>,
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq)]
pub enum HandshakeError {
    /// What rustls says, which tells whose fault it was.
    Rustls(Error),
    /// What it handed over cannot be used.
    Convert(ConvertError),
    /// The peer sent a message in more bytes than any takes.
    TooLong,
}

/// Bytes of one message that are kept: rustls' bound, and headers of sensible records. rustls keeps the headers of records until their
/// message is whole, so that records of one byte would make it six times as much.
const MAX_KEPT: usize = 70_000;

/// The longest record before keys are there, as rustls bounds it: header, and what TLS 1.2 allows beside the plaintext.
const MAX_RECORD: usize = HEADER + super::MAX_PLAINTEXT + 2048;

impl Handshake<UnbufferedServerConnection> {
    /// A client's connection. The configuration is copied (some pointers), to hear of this connection's secrets.
    pub fn accept(config: &ServerConfig) -> Result<Self, HandshakeError> {
        let capture = Arc::new(Capture::default());
        let mut config = config.clone();
        config.enable_secret_extraction = true;
        config.key_log = capture.clone();
        config.cert_resolver = Arc::new(Naming { resolver: config.cert_resolver, capture: capture.clone() });
        Ok(Self::new(UnbufferedServerConnection::new(Arc::new(config))?, capture))
    }
}

impl Handshake<UnbufferedClientConnection> {
    /// A connection to a server.
    pub fn connect(config: &ClientConfig, name: ServerName<'static>) -> Result<Self, HandshakeError> {
        let capture = Arc::new(Capture::default());
        let mut config = config.clone();
        config.enable_secret_extraction = true;
        config.key_log = capture.clone();
        let mut handshake = Self::new(UnbufferedClientConnection::new(Arc::new(config), name)?, capture);
        handshake.advance()?;
        Ok(handshake)
    }
}

impl<C: Endpoint> Handshake<C> {
    fn new(connection: C, capture: Arc<Capture>) -> Self {
        Self {
            connection,
            capture,
            input: Vec::new(),
            record_start: 0,
            out: Vec::new(),
            watch: Watch::default(),
            is_complete: false,
            is_failed: false,
        }
    }

    /// Takes bytes off the front of `input`: all that belong to the handshake, and none behind it.
    pub fn handle_input(&mut self, input: &mut &[u8]) -> Result<(), HandshakeError> {
        while !self.is_complete && !self.is_failed && self.take_record(input)? {
            self.watch.record(peer(C::SIDE), &self.input[self.record_start..]);
            self.record_start = self.input.len();
            if let Err(error) = self.advance() {
                self.fail();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Appends what is to be written; whether there was any.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        let has_some = !self.out.is_empty();
        out.append(&mut self.out);
        has_some
    }

    /// Whether all has been received and said, so that [`finish`](Self::finish) can follow.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes the connection over. What [`poll_transmit`](Self::poll_transmit) has not been asked for is lost.
    pub fn finish(mut self) -> Result<Established, HandshakeError> {
        let captured = mem::take(&mut *self.capture.lock());
        let common = self.connection.common();
        let suite = common.negotiated_cipher_suite().ok_or(Error::HandshakeNotComplete)?;
        let alpn = common.alpn_protocol().map(Vec::from);
        let peer_certificates = common.peer_certificates().map(Vec::from);
        let is_resumed = common.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let secrets = self.connection.into_secrets()?;
        let finished = self.watch.finished.take();
        let records = convert::convert(C::SIDE, suite, &secrets, &captured, finished)?;
        Ok(Established { records, alpn, server_name: captured.server_name, peer_certificates, is_resumed })
    }

    /// Bytes of what was received and is kept.
    pub fn kept_bytes(&self) -> usize {
        self.input.len()
    }

    /// Moves bytes of one record; whether it is whole. What is none is for rustls to say.
    fn take_record(&mut self, input: &mut &[u8]) -> Result<bool, HandshakeError> {
        while !input.is_empty() {
            let have = self.input.len() - self.record_start;
            let wanted = record_len(&self.input[self.record_start..]).unwrap_or(HEADER);
            let (part, rest) = input.split_at((wanted - have).min(input.len()));
            if self.input.len() + part.len() > MAX_KEPT {
                self.is_failed = true;
                return Err(HandshakeError::TooLong);
            }
            self.input.extend_from_slice(part);
            *input = rest;
            if record_len(&self.input[self.record_start..]) == Some(have + part.len()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets rustls work until it wants more, or is through.
    fn advance(&mut self) -> Result<(), HandshakeError> {
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process(&mut self.input);
            let before = self.out.len();
            let step = match state {
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut self.out).map(|()| Step::Encoded)
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Ok(Step::Encoded)
                }
                Ok(ConnectionState::BlockedHandshake) => Ok(Step::Starved),
                Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Complete),
                // Neither data nor an end can come from records of the handshake; early data are not asked for.
                Ok(_) => Err(Error::HandshakeNotComplete),
                Err(error) => Err(error),
            };
            self.watch.records(C::SIDE, &self.out[before..]);
            self.input.drain(..discard);
            self.record_start -= discard.min(self.record_start);
            match step? {
                Step::Encoded => {}
                Step::Starved => return Ok(()),
                Step::Complete => {
                    self.is_complete = true;
                    return Ok(());
                }
            }
        }
    }

    /// Collects what rustls has for the peer, the alert last. Asked for more, it would look at its input again, and fail again.
    fn fail(&mut self) {
        self.is_failed = true;
        while self.connection.common().wants_write() {
            let UnbufferedStatus { discard, state } = self.connection.process(&mut self.input);
            let Ok(ConnectionState::EncodeTlsData(data)) = state else { return };
            if encode(data, &mut self.out).is_err() {
                return;
            }
            self.input.drain(..discard);
        }
    }
}

enum Step {
    Encoded,
    Starved,
    Complete,
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    let len = match data.encode(&mut []) {
        Ok(len) => len,
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => required_size,
        Err(error) => return Err(Error::General(error.to_string())),
    };
    out.resize(start + len, 0);
    data.encode(&mut out[start..]).map(drop).map_err(|error| Error::General(error.to_string()))
}

/// The length of a record, header included. What cannot be one ends at its header, and rustls then refuses it: it does not wait for
/// the 8 KB that "GET /" promises.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let &[kind, major, _, high, low] = bytes.first_chunk::<HEADER>()?;
    let len = HEADER + usize::from(u16::from_be_bytes([high, low]));
    let is_plausible = ContentType::from_byte(kind).is_ok() && major == 3 && len <= MAX_RECORD;
    Some(if is_plausible { len } else { HEADER })
}

fn peer(side: Side) -> Side {
    match side {
        Side::Server => Side::Client,
        Side::Client => Side::Server,
    }
}

impl Watch {
    fn records(&mut self, from: Side, mut bytes: &[u8]) {
        while let Some(len) = record_len(bytes).filter(|len| *len <= bytes.len()) {
            let (record, rest) = bytes.split_at(len);
            self.record(from, record);
            bytes = rest;
        }
    }

    fn record(&mut self, from: Side, record: &[u8]) {
        if record.first() == Some(&(ContentType::ChangeCipherSpec as u8)) {
            self.changed.get_or_insert(from);
        } else if self.changed == Some(from)
            && self.finished.is_none()
            && record.first() == Some(&(ContentType::Handshake as u8))
        {
            self.finished = Some(Finished { from, record: record.to_vec() });
        }
    }
}

impl Endpoint for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    const SIDE: Side = Side::Server;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_secrets(self) -> Result<ExtractedSecrets, Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, _)| secrets)
    }
}

impl Endpoint for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    const SIDE: Side = Side::Client;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_secrets(self) -> Result<ExtractedSecrets, Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, _)| secrets)
    }
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> Self {
        Self::Rustls(error)
    }
}

impl From<ConvertError> for HandshakeError {
    fn from(error: ConvertError) -> Self {
        Self::Convert(error)
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustls(error) => error.fmt(f),
            Self::Convert(error) => error.fmt(f),
            Self::TooLong => f.write_str("a message of the TLS handshake is too long"),
        }
    }
}

impl std::error::Error for HandshakeError {}
