//! XML streams: compared with ejabberd's parser, and on their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod corpus;
mod differential;
mod erlang;
mod oracle;
mod parser;
