//! Erlang code in a node of its own, asked over a pipe, and terms as it prints them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use megaphone_proto::xmpp::{Element, Item};

pub(crate) struct Oracle {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    /// Starts an escript of this directory's parent that says `ready`, and then answers each line with a line.
    pub(crate) fn start(script: &str) -> Self {
        let mut child = Command::new("escript")
            .arg(format!("{}/tests/{script}", env!("CARGO_MANIFEST_DIR")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test compares with Erlang: install erlang-base and ejabberd (escript not found)");
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut oracle = Self { child, requests, answers };
        let greeting = oracle.read_line();
        assert_eq!(greeting, "ready", "this test compares with ejabberd's own code: {greeting}");
        oracle
    }

    pub(crate) fn ask(&mut self, request: &str) -> String {
        let requests = self.requests.as_mut().unwrap();
        writeln!(requests, "{request}.").unwrap();
        requests.flush().unwrap();
        self.read_line()
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the Erlang oracle ended; its own output says why");
        line.trim_end().to_owned()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.requests.take());
        let status = self.child.wait();
        if !std::thread::panicking() {
            assert!(status.unwrap().success());
        }
    }
}

/// A binary as `~w` prints it.
pub(crate) fn binary(bytes: &[u8]) -> String {
    let numbers: Vec<_> = bytes.iter().map(u8::to_string).collect();
    format!("<<{}>>", numbers.join(","))
}

/// An element as `~w` prints its `#xmlel{}`, built from the back as a NIF would build it.
pub(crate) fn xmlel(element: &Element) -> String {
    // Each open level: its children, and its attributes, both complete from some point to the end.
    let mut levels: Vec<(Vec<String>, Vec<String>)> = vec![(Vec::new(), Vec::new())];
    for item in element.items().rev() {
        let (children, attrs) = levels.last_mut().unwrap();
        match item {
            Item::End => levels.push((Vec::new(), Vec::new())),
            Item::Text(text) => children.push(format!("{{xmlcdata,{}}}", binary(text))),
            Item::Attr(name, value) => attrs.push(format!("{{{},{}}}", binary(name), binary(value))),
            Item::Start(name) => {
                let (children, attrs) = levels.pop().unwrap();
                let el = format!("{{xmlel,{},{},{}}}", binary(name), list(attrs), list(children));
                levels.last_mut().unwrap().0.push(el);
            }
        }
    }
    assert_eq!(levels.len(), 1);
    levels.pop().unwrap().0.pop().unwrap()
}

/// A stream header as `~w` prints its event.
pub(crate) fn xmlstreamstart(header: &Element) -> String {
    let el = xmlel(header);
    let fields = el.strip_prefix("{xmlel").and_then(|el| el.strip_suffix(",[]}")).unwrap();
    format!("{{xmlstreamstart{fields}}}")
}

fn list(mut reversed: Vec<String>) -> String {
    reversed.reverse();
    format!("[{}]", reversed.join(","))
}
