//! The head of an answer that no handler gives.

/// Appends a status line and header fields with the blank line after them to `out`.
///
/// `status` is the code and the reason. `fields` are whole lines, each with its CR LF, that a listener adds to
/// all its answers. A field of `own` is left out when there is one of its name, in any case, among `fields`: a
/// listener that sets Content-Length or Connection answers for what becomes of the connection.
pub fn write_head(version_1_1: bool, status: &str, own: &[(&str, &str)], fields: &[u8], out: &mut Vec<u8>) {
    let version = if version_1_1 { "1.1" } else { "1.0" };
    out.extend_from_slice(format!("HTTP/{version} {status}\r\n").as_bytes());
    for (name, value) in own {
        if !has_field(fields, name) {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    out.extend_from_slice(fields);
    out.extend_from_slice(b"\r\n");
}

/// Whether one of the header lines has this name.
pub(crate) fn has_field(lines: &[u8], name: &str) -> bool {
    let mut names =
        lines.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b':').next());
    names.any(|found| found.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn head(version_1_1: bool, own: &[(&str, &str)], fields: &str) -> String {
        let mut out = b"before".to_vec();
        write_head(version_1_1, "200 OK", own, fields.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_listeners_lines_replace_those_of_the_same_name() {
        let own = [("Server", "a"), ("Content-Length", "5")];
        assert_eq!(head(true, &own, ""), "beforeHTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(
            head(false, &own, "X-A: Server\r\nsERVER: b\r\n"),
            "beforeHTTP/1.0 200 OK\r\nContent-Length: 5\r\nX-A: Server\r\nsERVER: b\r\n\r\n"
        );
        assert_eq!(head(true, &[], ""), "beforeHTTP/1.1 200 OK\r\n\r\n");
    }
}
