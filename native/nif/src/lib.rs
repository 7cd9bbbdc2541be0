//! The NIF library `megaphone_nif`: terms on one side, `megaphone-core` on the other, no protocol in between.
//!
//! No function here waits for a socket. A panic in one becomes an Erlang exception (`rustler` catches it);
//! a panic in a step of a connection ends that connection.

mod atoms;
mod config;
mod decode;
mod effort;
mod fd;
mod host;
mod info;
mod links;
mod listeners;
mod monitors;
mod options;
mod pack;
mod sockets;
mod system;
mod terms;
mod xml;
mod xmpp;

rustler::init!("megaphone_nif");
