//! A running Erlang that is asked what it makes of bytes.
#![allow(dead_code, reason = "each test that has this module uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use megaphone_proto::packet::{Decoded, Method, Packet, Scheme, Target};

/// One Erlang for all questions of a test.
pub(crate) struct Oracle {
    erlang: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    /// Starts it. A machine without Erlang fails the test: a differential test that compares with nothing
    /// would pass.
    pub(crate) fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/decode_packet.escript");
        let mut erlang =
            Command::new("escript").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(
                "these tests compare with Erlang: install erlang-base (OTP 25), with escript on PATH",
            );
        let questions = erlang.stdin.take();
        let answers = BufReader::new(erlang.stdout.take().unwrap());
        Self { erlang, questions, answers }
    }

    /// What `erlang:decode_packet/3` answers, in the words that [`in_words`] uses.
    pub(crate) fn packet(
        &mut self,
        mode: &str,
        packet_size: usize,
        line_length: usize,
        bytes: &[u8],
    ) -> String {
        self.ask(&format!("packet {mode} {packet_size} {line_length} {}", hex(bytes)))
    }

    /// The requests in a stream of bytes, by their Content-Length.
    pub(crate) fn requests(&mut self, bytes: &[u8]) -> String {
        self.ask(&format!("requests {}", hex(bytes)))
    }

    /// What a socket with these options makes of pieces that come one after the other, until its peer closes.
    pub(crate) fn socket(
        &mut self,
        mode: &str,
        packet_size: usize,
        buffer: usize,
        pieces: &[&[u8]],
    ) -> String {
        let pieces: String = pieces.iter().map(|piece| format!(" {}", hex(piece))).collect();
        self.ask(&format!("socket {mode} {packet_size} {buffer}{pieces}"))
    }

    /// The size of a socket's buffer after options were set.
    pub(crate) fn buffer(&mut self, settings: &[(&str, usize)]) -> String {
        let settings: String = settings.iter().map(|(name, value)| format!(" {name} {value}")).collect();
        self.ask(&format!("buffer{settings}"))
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.questions.as_mut().unwrap(), "{question}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(answer.ends_with('\n'), "Erlang ended at: {question}");
        answer.trim_end().to_owned()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It ends with its standard input.
        drop(self.questions.take());
        let _ = self.erlang.wait();
    }
}

/// A decoded packet in the oracle's words.
pub(crate) fn in_words(decoded: &Decoded<'_>) -> String {
    match decoded {
        Decoded::More(None) => "more".to_owned(),
        Decoded::More(Some(length)) => format!("more {length}"),
        Decoded::Invalid => "invalid".to_owned(),
        Decoded::Packet { packet, len } => format!("{} {len}", packet_in_words(packet)),
    }
}

/// A packet in the oracle's words.
pub(crate) fn packet_in_words(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Line(line) => format!("line {}", hex(line)),
        Packet::Request { method, target, version: (major, minor) } => {
            let method = match method {
                Method::Known(atom) => format!("atom:{atom}"),
                Method::Other(bytes) => hex(bytes),
            };
            format!("request {method} {} {major}.{minor}", target_in_words(target))
        }
        Packet::Response { version: (major, minor), status, phrase } => {
            format!("response {major}.{minor} {status} {}", hex(phrase))
        }
        Packet::Header { bit, known, name, raw_name, value } => {
            let name = known.map_or_else(|| hex(name), |atom| format!("atom:{atom}"));
            format!("header {bit} {name} {} {}", hex(raw_name), hex(value))
        }
        Packet::EndOfHeader => "eoh".to_owned(),
        Packet::HttpError(line) => format!("http_error {}", hex(line)),
    }
}

fn target_in_words(target: &Target<'_>) -> String {
    match target {
        Target::Star => "star".to_owned(),
        Target::AbsoluteUri { scheme, host, port, path } => {
            let scheme = match scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            };
            let port = port.map_or_else(|| "undefined".to_owned(), |port| port.to_string());
            format!("absolute {scheme} {} {port} {}", hex(host), hex(path))
        }
        Target::Scheme(before, after) => format!("scheme {} {}", hex(before), hex(after)),
        Target::AbsPath(path) => format!("abs_path {}", hex(path)),
        Target::Other(bytes) => format!("other {}", hex(bytes)),
    }
}

/// As the oracle writes bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold("x".to_owned(), |mut digits, byte| {
        write!(digits, "{byte:02X}").unwrap();
        digits
    })
}
