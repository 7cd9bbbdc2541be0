//! Replaces a chunked body by its data, in the buffer that it arrived in.

use bytes::{Buf, BytesMut};

use crate::http::RequestError;
use crate::http::framing::chunked::Chunks;

/// Reads on in the body that follows `buf[..head]`, moving its data to where that ends. What was read before
/// is there already. `max` is the largest body, in bytes.
pub(in crate::http) fn decode(
    buf: &mut BytesMut,
    head: usize,
    chunks: &mut Chunks,
    max: usize,
) -> Result<(), RequestError> {
    let mut read = head + chunks.found();
    let mut write = read;
    while read < buf.len() && !chunks.is_done() {
        read += chunks.framing(&buf[read..], max)?;
        let data = chunks.data(buf.len() - read);
        buf.copy_within(read..read + data, write);
        read += data;
        write += data;
    }
    close_gap(buf, write, read);
    Ok(())
}

/// Removes `buf[from..to]`. Moves what is before it when there is something after it: the part before is
/// one request, the part after may be any number of them, and would be moved again for each.
fn close_gap(buf: &mut BytesMut, from: usize, to: usize) {
    if to == buf.len() {
        buf.truncate(from);
    } else {
        buf.copy_within(..from, to - from);
        buf.advance(to - from);
    }
}
