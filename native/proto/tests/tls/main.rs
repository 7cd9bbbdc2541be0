//! TLS records against rustls' own, and against OpenSSL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod differential;
mod ends;
mod handshakes;
mod openssl;
mod rules;
mod sequences;
