//! The program, as it runs beside a test, with its log.

use super::Directory;
use super::node::TestNode;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Nothing takes that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An address where nothing listens, and that no other test is given: below the ports that the system gives to clients, and
/// not where another process begins to look.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let at = std::process::id().wrapping_mul(101).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], 10_240 + (at % 20_000) as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A configuration with listeners and nodes on this machine.
#[derive(Default)]
pub(crate) struct Plan {
    /// Before any table.
    pub(crate) root: String,
    pub(crate) tables: String,
}

impl Plan {
    pub(crate) fn root(mut self, line: &str) -> Self {
        self.root += line;
        self.root.push('\n');
        self
    }

    pub(crate) fn tables(mut self, lines: &str) -> Self {
        self.tables += lines;
        self.tables.push('\n');
        self
    }

    pub(crate) fn listener(self, listen: SocketAddr, service: &str, more: &str) -> Self {
        self.tables(&format!("[[listeners]]\nlisten = \"{listen}\"\nfor = \"{service}\"\n{more}"))
    }

    pub(crate) fn node(self, node: &TestNode, more: &str) -> Self {
        let (name, address) = (node.name(), node.address());
        let place = format!("address = \"{}\"\nport = {}", address.ip(), address.port());
        self.tables(&format!("[[nodes]]\nname = \"{name}\"\n{place}\n{more}"))
    }

    pub(crate) fn text(&self) -> String {
        let head = "name = \"ecm1\"\nsecret_file = \"ecm.secret\"";
        // One worker's worth.
        let room = if self.root.contains("max_connections") { "" } else { "max_connections = 1000\n" };
        format!("{head}\n{room}{}{}", self.root, self.tables)
    }
}

#[derive(Default)]
struct Lines {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

/// A running program. Killed when it is dropped.
pub(crate) struct Ecm {
    child: Child,
    log: Arc<Lines>,
    pub(crate) directory: Directory,
}

impl Ecm {
    /// Starts it, and waits until it serves.
    pub(crate) fn start(plan: &Plan) -> Self {
        Self::with_secret(plan, super::SECRET)
    }

    pub(crate) fn with_secret(plan: &Plan, secret: &str) -> Self {
        let directory = Directory::new();
        directory.write("ecm.secret", secret, 0o600);
        directory.write("ecm.toml", &plan.text(), 0o644);
        let mut child = Command::new(env!("CARGO_BIN_EXE_megaphone-ecm"))
            .arg("ecm.toml")
            .current_dir(directory.path(""))
            .env_remove("MEGAPHONE_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Lines>::default();
        let (stderr, lines) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || lines.gather(stderr));
        let ecm = Self { child, log, directory };
        ecm.wait_for("serving", 1);
        ecm
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Has it read another configuration.
    pub(crate) fn reload(&self, plan: &Plan) {
        self.directory.write("ecm.toml", &plan.text(), 0o644);
        self.signal(Signal::HUP);
    }

    /// Lines of the log with this in them.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.log.lines.lock().unwrap().0.iter().filter(|line| line.contains(part)).count()
    }

    /// Waits until so many lines of the log have this in them.
    #[track_caller]
    pub(crate) fn wait_for(&self, part: &str, times: usize) {
        let lines = self.log.lines.lock().unwrap();
        let is_missing = |(lines, is_over): &mut (Vec<String>, bool)| {
            !*is_over && lines.iter().filter(|line| line.contains(part)).count() < times
        };
        let (lines, _) = self.log.more.wait_timeout_while(lines, PATIENCE, is_missing).unwrap();
        let found = lines.0.iter().filter(|line| line.contains(part)).count();
        assert!(found >= times, "{part:?} is there {found} times, not {times}:\n{}", lines.0.join("\n"));
    }

    /// The code that it exits with.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the program's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// Kilobytes of memory.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Ecm {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lines {
    fn gather(&self, stderr: ChildStderr) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            self.lines.lock().unwrap().0.push(line);
            self.more.notify_all();
        }
        self.lines.lock().unwrap().1 = true;
        self.more.notify_all();
    }
}

/// A client's connection.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client
}

/// Sends it, and wants it back.
#[track_caller]
pub(crate) fn echo(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).unwrap();
    assert!(back == bytes, "{:?}", back.escape_ascii().to_string());
}

/// All that still comes, and whether it ended with a reset.
pub(crate) fn rest(client: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    match client.read_to_end(&mut all) {
        Ok(_) => (all, false),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => (all, true),
        Err(error) => panic!("{error}"),
    }
}
