//! Whether a request is for a configured path, as `ejabberd_http` decides it.

/// A path that a service is configured for.
///
/// `ejabberd_http` 23.01 compares the segments of a path and drops empty ones. In the request's path, not in the
/// configured one, it resolves dot segments, decodes per cent signs, and drops `..` once more. The target may be in
/// absolute form. A query is cut off; a fragment, which no request target has (RFC 9112, 3.2), belongs to the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    segments: Box<[Box<[u8]>]>,
}

impl Path {
    /// Reads a configured path, as of the option `request_handlers`.
    pub fn parse(configured: &[u8]) -> Self {
        Self { segments: segments(configured).map(Box::from).collect() }
    }

    /// Whether `target`, a request target, has this path and not just begins with it. Allocates nothing for a path
    /// without per cent signs and dot segments.
    pub fn matches(&self, target: &[u8]) -> bool {
        let Some(path) = path_of(target) else { return false };
        if is_plain(path) {
            return self.is(segments(path));
        }
        let Some(decoded) = decode(&without_dots(path)) else { return false };
        self.is(without_parents(segments(&decoded).collect()).into_iter())
    }

    fn is<'a>(&self, segments: impl Iterator<Item = &'a [u8]>) -> bool {
        self.segments.iter().map(|segment| &segment[..]).eq(segments)
    }
}

fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty())
}

/// The path of a target that has one. `decode_packet` takes a target of one byte for a path, too.
fn path_of(target: &[u8]) -> Option<&[u8]> {
    let path_and_query = match target {
        b"*" => return None,
        [_] | [b'/', ..] => target,
        _ => super::target::absolute(target)?.1,
    };
    let path = path_and_query.split(|byte| *byte == b'?').next()?;
    (!path.contains(&0)).then_some(path)
}

fn is_plain(path: &[u8]) -> bool {
    !path.contains(&b'%') && !path.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b".."))
}

/// Resolves dot segments from the end on, so a `..` at the front has nothing to take away. What is before the
/// first slash counts as a segment only there: `.` stays.
fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut parents = 0;
    let mut left = path.split(|byte| *byte == b'/').count();
    for segment in path.rsplit(|byte| *byte == b'/') {
        left -= 1;
        match segment {
            b"" => {}
            b"." if left > 0 => {}
            b".." => parents += 1,
            _ if parents > 0 => parents -= 1,
            _ => kept.push(segment),
        }
    }
    kept.reverse();
    let mut joined = kept.join(&b'/');
    // A per cent sign before it needs to know.
    if path.ends_with(b"/") {
        joined.push(b'/');
    }
    joined
}

/// Decodes per cent signs; one that less than two bytes follow stands for itself. None for what is not a number, and
/// for a null.
fn decode(mut path: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(path.len());
    while let [first, rest @ ..] = path {
        let (byte, rest) = match (first, rest) {
            (b'%', [high, low, rest @ ..]) => (number([*high, *low]).filter(|byte| *byte != 0)?, rest),
            _ => (*first, rest),
        };
        decoded.push(byte);
        path = rest;
    }
    Some(decoded)
}

/// Two digits, or a sign and a digit, which Erlang's `list_to_integer` takes as well.
fn number([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| Some((byte as char).to_digit(16)? as u8);
    match high {
        b'+' => digit(low),
        b'-' => digit(low).map(u8::wrapping_neg),
        _ => Some(digit(high)? << 4 | digit(low)?),
    }
}

/// Drops each `..`, which was encoded, with the segment before it. What comes to stand before another one by that
/// stays.
fn without_parents(segments: Vec<&[u8]>) -> Vec<&[u8]> {
    let mut kept = Vec::with_capacity(segments.len());
    let mut rest = &segments[..];
    while let [first, after @ ..] = rest {
        rest = match after {
            _ if *first == b".." => after,
            [b"..", after @ ..] => after,
            _ => {
                kept.push(*first);
                after
            }
        };
    }
    kept
}
