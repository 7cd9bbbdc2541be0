//! What a handler behind us is shown of a request whose extent is known.
//!
//! A handler parses the head again, and `erlang:decode_packet/3` takes fewer forms than RFC 9112 asks for.
//! So it is shown the plain form of the same request, which says nothing else. Decides nothing about where a
//! request ends or whether it is refused: that is `framing`'s. Nothing grows, so all is done in the buffer.

mod body;
mod head;

pub(super) use body::decode;
pub(super) use head::{MAX_BODY, chunked_to_length, plain_head, plain_version};
