//! Request targets, and those in absolute form (RFC 9112, 3.2.2).

/// The request target of a head, before anything else of it is looked at: what is between the first two spaces.
pub fn of(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

/// The authority of an `http` or `https` target in absolute form, and the rest from its path on, which may be
/// empty or begin with the query.
pub(super) fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })?;
    Some(rest.split_at(rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len())))
}

/// Splits an authority before the colon of its port. The second part is empty when there is none.
pub(super) fn split_authority(authority: &[u8]) -> (&[u8], &[u8]) {
    let after_literal = authority.iter().position(|byte| *byte == b']').map_or(0, |at| at + 1);
    let colon = authority[after_literal..].iter().position(|byte| *byte == b':');
    authority.split_at(colon.map_or(authority.len(), |at| after_literal + at))
}
