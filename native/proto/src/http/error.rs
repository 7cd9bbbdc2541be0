//! What a client can do wrong, and the answer it gets. Nothing in here is our own fault.

use std::fmt;

use super::answer::write_head;

/// Makes the enum and its answers from one table, so that a cause can't lack a status or a text.
macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident => $status:literal $phrase:literal, $text:literal;)*) => {
        /// Why a request is refused: always the peer's fault, and always the end of the connection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RequestError {
            $($(#[$doc])* $name,)*
            /// The handler left more of a body unread than [`Limits::max_skipped_body`] allows to discard.
            /// It has answered already, so the connection closes without a word.
            ///
            /// [`Limits::max_skipped_body`]: super::Limits::max_skipped_body
            UnreadBody,
        }

        impl RequestError {
            /// The status code of [`response`](Self::response); `None` when nothing is to be sent.
            pub fn status(&self) -> Option<u16> {
                match self {
                    $(Self::$name => Some($status),)*
                    Self::UnreadBody => None,
                }
            }

            /// The status code with its reason; empty when nothing is to be sent.
            fn status_line(&self) -> &'static str {
                match self {
                    $(Self::$name => concat!($status, " ", $phrase),)*
                    Self::UnreadBody => "",
                }
            }

            fn text(&self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::UnreadBody => "too much of a body left unread",
                }
            }

            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name,)* Self::UnreadBody];
        }
    };
}

causes! {
    /// More empty lines before the request line than a careless client sends (RFC 9112, 2.2).
    EmptyLines => 400 "Bad Request", "too many empty lines before a request";
    /// The request line is not `method SP target SP version` (RFC 9112, 3).
    RequestLine => 400 "Bad Request", "malformed request line";
    /// The method starts with a byte that no method has; often TLS or another protocol on a plain port.
    NotHttp => 400 "Bad Request", "not an HTTP request";
    /// A field line without a colon, or with a name that is not a token (RFC 9110, 5.1).
    FieldName => 400 "Bad Request", "malformed header field name";
    /// A control character in a field value (RFC 9110, 5.5).
    FieldValue => 400 "Bad Request", "malformed header field value";
    /// White space between a field name and its colon (RFC 9112, 5.1).
    SpaceBeforeColon => 400 "Bad Request", "white space before a header's colon";
    /// A field line that starts with white space: obsolete folding (RFC 9112, 5.2).
    FoldedField => 400 "Bad Request", "folded header field";
    /// A carriage return without a line feed (RFC 9112, 2.2).
    BareCr => 400 "Bad Request", "carriage return without line feed";
    /// A NUL in the head.
    Nul => 400 "Bad Request", "NUL in the request head";
    /// HTTP/1.1 without a Host field (RFC 9112, 3.2).
    HostMissing => 400 "Bad Request", "no Host field";
    /// Two Host fields, the same or not (RFC 9112, 3.2).
    HostRepeated => 400 "Bad Request", "more than one Host field";
    /// A host, in the Host field or in an absolute target, that is none (RFC 9112, 3.2; RFC 3986, 3.2.2).
    Host => 400 "Bad Request", "malformed host";
    /// A Content-Length that is not a plain number: with a sign, a list, or empty.
    ContentLength => 400 "Bad Request", "malformed Content-Length";
    /// A Content-Length of 2^63 or more.
    ContentLengthOverflow => 400 "Bad Request", "Content-Length too large";
    /// Two Content-Length fields that differ (RFC 9112, 6.3).
    ContentLengthsDiffer => 400 "Bad Request", "Content-Length fields that differ";
    /// Both Content-Length and Transfer-Encoding (RFC 9112, 6.1).
    LengthAndEncoding => 400 "Bad Request", "both Content-Length and Transfer-Encoding";
    /// Transfer-Encoding in an HTTP/1.0 request (RFC 9112, 6.1).
    EncodingInHttp10 => 400 "Bad Request", "Transfer-Encoding in HTTP/1.0";
    /// A chunk size that is not 1 to 16 hexadecimal digits, or not followed by CRLF or an extension, white
    /// space apart (RFC 9112, 7.1).
    ChunkSize => 400 "Bad Request", "malformed chunk size";
    /// A control character in a chunk extension (RFC 9112, 7.1.1).
    ChunkExtension => 400 "Bad Request", "malformed chunk extension";
    /// A chunk's bytes that are not followed by CRLF.
    ChunkEnd => 400 "Bad Request", "chunk not ended by CR LF";
    /// A malformed trailer field (RFC 9112, 7.1.2).
    Trailer => 400 "Bad Request", "malformed trailer field";
    /// The head was not whole in time. Raised by the connection's owner.
    HeadTimeout => 408 "Request Timeout", "request head too slow";
    /// The body was not whole in time. Raised by the connection's owner.
    BodyTimeout => 408 "Request Timeout", "request body too slow";
    /// A chunked body over [`Limits::max_chunked_body`](super::Limits::max_chunked_body).
    BodyTooLarge => 413 "Content Too Large", "chunked request body too large";
    /// More than 16 KB of chunk extensions, or white space around sizes, in one body.
    ChunkExtensionsTooLarge => 413 "Content Too Large", "too many bytes of extensions";
    /// The head is over [`Limits::max_head`](super::Limits::max_head).
    HeadTooLarge => 431 "Request Header Fields Too Large", "request head too large";
    /// More than 16 KB of trailer fields.
    TrailersTooLarge => 431 "Request Header Fields Too Large", "trailer fields too large";
    /// A Transfer-Encoding other than `chunked` alone.
    TransferEncoding => 501 "Not Implemented", "unsupported Transfer-Encoding";
    /// A well-formed version of another major number than 1.
    Version => 505 "HTTP Version Not Supported", "HTTP/1.0 and HTTP/1.1 only";
}

impl RequestError {
    /// Appends the whole response to write before closing, with `Connection: close` and a text that names the
    /// cause. Appends nothing when the connection is to be closed without a word.
    ///
    /// `fields` are whole header lines of the listener, as [`write_head`] takes them.
    pub fn response(&self, fields: &[u8], out: &mut Vec<u8>) {
        if self.status().is_none() {
            return;
        }
        let text = self.text();
        let length = (text.len() + 1).to_string();
        let own = [("Content-Type", "text/plain"), ("Content-Length", &length), ("Connection", "close")];
        write_head(true, self.status_line(), &own, fields, out);
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for RequestError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_response_is_whole_and_closes() {
        for error in RequestError::ALL {
            let mut bytes = Vec::new();
            error.response(b"Access-Control-Allow-Origin: *\r\n", &mut bytes);
            let Some(status) = error.status() else {
                assert!(bytes.is_empty());
                continue;
            };
            let mut fields = [httparse::EMPTY_HEADER; 8];
            let mut response = httparse::Response::new(&mut fields);
            let head = response.parse(&bytes).unwrap().unwrap();
            assert_eq!(response.code, Some(status));
            let value = |name| {
                let field = response.headers.iter().find(|f| f.name == name).unwrap();
                std::str::from_utf8(field.value).unwrap()
            };
            assert_eq!(value("Connection"), "close");
            assert_eq!(value("Access-Control-Allow-Origin"), "*");
            assert_eq!(value("Content-Length"), (bytes.len() - head).to_string(), "{error:?}");
            assert_eq!(&bytes[head..], format!("{error}\n").as_bytes());
        }
    }

    #[test]
    fn a_response_has_the_listeners_fields_in_place_of_its_own() {
        let mut bytes = Vec::new();
        RequestError::Host.response(b"content-type: text/html\r\n", &mut bytes);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 15\r\nConnection: close\r\ncontent-type: text/html\r\n\r\n\
             malformed host\n"
        );
    }
}
