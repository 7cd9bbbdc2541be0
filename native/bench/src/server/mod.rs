//! A server under test: an ejabberd of its own in a fresh directory, started, asked and ended by pid.

mod ecm;
pub(crate) mod relay;
pub(crate) mod variant;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::server::ecm::Ecm;
use crate::server::relay::Relay;
use crate::server::variant::Variant;

const CONTROL: &str = include_str!("control.erl");
const MALLOC: &str = include_str!("malloc.c");
const CONFIG: &str = include_str!("ejabberd.yml");
const ANSWER_MARK: &str = "@bench ";
/// Servers started so far: each has a directory and logs of its own.
static STARTED: AtomicUsize = AtomicUsize::new(0);
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The vhost with registered accounts.
pub(crate) const HOST: &str = "localhost";
/// The password of all registered accounts.
pub(crate) const PASSWORD: &str = "secret";
/// Accounts are called this, followed by their number.
pub(crate) const ACCOUNT_PREFIX: &str = "user";

/// What a server is started with, besides the variant.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Users that it has to hold; sizes the tables of processes and ports.
    pub(crate) users: usize,
    /// The listen backlog of both listeners, unless it is to be ejabberd's own of 5.
    pub(crate) backlog: u32,
    /// Where fresh directories are made.
    pub(crate) state_root: PathBuf,
    /// The link of a connection manager goes through a relay that can break it.
    pub(crate) is_breakable: bool,
}

/// A running ejabberd, and what is before it. Dropping it ends both.
pub(crate) struct Server {
    ecm: Option<Ecm>,
    relay: Option<Relay>,
    child: Child,
    questions: ChildStdin,
    answers: Receiver<String>,
    directory: PathBuf,
    /// Where users on TCP connect to.
    pub(crate) c2s: SocketAddr,
    /// Where HTTP, BOSH and WebSocket are served, to users.
    pub(crate) http: SocketAddr,
}

impl Server {
    /// Starts `variant` and waits until both listeners accept, and its connection manager, where it has one, is ready.
    ///
    /// # Errors
    /// When ejabberd is not installed, is missing parts of the variant, or does not come up within 60 s; the
    /// error names its log.
    pub(crate) fn start(variant: &Variant, setup: &Setup) -> Result<Self> {
        let directory = fresh_directory(&setup.state_root, &variant.name)?;
        let [c2s, http, link, ecm_c2s, ecm_http, health] = free_ports()?;
        let config = configuration(variant, [c2s.port(), http.port(), link.port()], setup.backlog);
        fs::write(directory.join("ejabberd.yml"), config)?;
        if variant.ecm.is_some() {
            ecm::write_secret(&directory)?;
        }
        compile_control(&directory)?;
        let mut child = command(variant, setup, &directory)?
            .spawn()
            .context("starting `erl`; Debian has it in the package ejabberd")?;
        let (questions, output) = match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => (stdin, stdout),
            _ => bail!("the node has no stdin or stdout"),
        };
        let answers = read_answers(output, File::create(directory.join("console.log"))?);
        let mut server = Self { ecm: None, relay: None, child, questions, answers, directory, c2s, http };
        server.wait_until_ready(variant)?;
        if let Some(program) = &variant.ecm {
            server.relay = if setup.is_breakable { Some(Relay::start(link)?) } else { None };
            let link = server.relay.as_ref().map_or(link, |relay| relay.address);
            let places = ecm::Places { c2s: ecm_c2s, http: ecm_http, health, link };
            server.ecm = Some(Ecm::start(program, &server.directory, &places, setup)?);
            (server.c2s, server.http) = (ecm_c2s, ecm_http);
        }
        Ok(server)
    }

    /// The pid of the Erlang VM.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What can break the link, once.
    pub(crate) fn take_relay(&mut self) -> Option<Relay> {
        self.relay.take()
    }

    /// The pid of the connection manager.
    pub(crate) fn ecm_pid(&self) -> Option<u32> {
        self.ecm.as_ref().map(Ecm::pid)
    }

    /// Of all that serves the users.
    pub(crate) fn pids(&self) -> Vec<u32> {
        std::iter::once(self.pid()).chain(self.ecm_pid()).collect()
    }

    /// Asks the node one of the questions of control.erl.
    ///
    /// # Errors
    /// When the node is gone or does not answer within `limit`.
    pub(crate) fn ask(&mut self, question: &str, limit: Duration) -> Result<Value> {
        writeln!(self.questions, "{question}").with_context(|| format!("asking the node for {question}"))?;
        self.questions.flush()?;
        let answer = self.answers.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => anyhow::anyhow!("no answer from the node within {limit:?}"),
            RecvTimeoutError::Disconnected => anyhow::anyhow!("the node is gone"),
        })?;
        serde_json::from_str(&answer).with_context(|| format!("the node's answer {answer:?}"))
    }

    /// Registers accounts `user{0}` to `user{count - 1}`.
    ///
    /// # Errors
    /// When the node is gone, or some could not be registered.
    pub(crate) fn register(&mut self, count: usize) -> Result<()> {
        let question = format!("register {HOST} {ACCOUNT_PREFIX} 0 {} {PASSWORD}", count.saturating_sub(1));
        let answer = self.ask(&question, Duration::from_secs(60 + count as u64 / 100))?;
        let registered = answer["registered"].as_u64().unwrap_or(0);
        if registered != count as u64 {
            bail!("only {registered} of {count} accounts could be registered");
        }
        Ok(())
    }

    /// Gives the registered accounts `user{first}` to `user{first + count - 1}` so many mutual contacts each, among
    /// themselves.
    ///
    /// # Errors
    /// When the node is gone, they are too few for that, or something else is in the rosters.
    pub(crate) fn befriend(&mut self, first: usize, count: usize, contacts: usize) -> Result<()> {
        if count <= contacts {
            bail!("{count} users are too few to have {contacts} contacts each");
        }
        let last = first + count - 1;
        let question = format!("befriend {HOST} {ACCOUNT_PREFIX} {first} {last} {contacts}");
        let limit = Duration::from_secs(60 + (count * contacts) as u64 / 1000);
        self.ask(&question, limit)?;
        Ok(())
    }

    /// Contacts whose presence the sessions of `user{first}` to `user{first + count - 1}` know, on average. Asking
    /// wakes them.
    ///
    /// # Errors
    /// When the node is gone, or a session does not answer.
    pub(crate) fn contacts_online(&mut self, first: usize, count: usize) -> Result<f64> {
        let last = first + count - 1;
        let question = format!("contacts_online {HOST} {ACCOUNT_PREFIX} {first} {last}");
        let answer = self.ask(&question, Duration::from_secs(60))?;
        let contacts = answer["contacts"].as_f64().context("the node's answer has no contacts")?;
        Ok(contacts / count as f64)
    }

    fn wait_until_ready(&self, variant: &Variant) -> Result<()> {
        let log = self.directory.join("console.log");
        match self.answers.recv_timeout(START_LIMIT) {
            Ok(answer) if answer.contains("true") => {}
            _ => bail!("{} did not start; see {}", variant.name, log.display()),
        }
        let deadline = Instant::now() + START_LIMIT;
        for address in [self.c2s, self.http] {
            while let Err(error) = TcpStream::connect(address) {
                if Instant::now() > deadline {
                    bail!("{} does not listen on {address} ({error}); see {}", variant.name, log.display());
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    fn stop(&mut self) -> std::io::Result<()> {
        if let Some(ecm) = &mut self.ecm {
            ecm.stop()?;
        }
        self.child.kill()?;
        let deadline = Instant::now() + STOP_LIMIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the node does not end"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.keep_logs()?;
        fs::remove_dir_all(&self.directory)
    }

    /// What the node logged stays beside its directory: errors in a report are looked up there.
    fn keep_logs(&self) -> std::io::Result<()> {
        for (log, suffix) in [("ejabberd.log", "log"), ("console.log", "console.log"), (ecm::LOG, ecm::LOG)] {
            match fs::rename(self.directory.join(log), self.directory.with_extension(suffix)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("stopping the node (pid {}): {error}", self.child.id());
        }
    }
}

fn fresh_directory(root: &Path, variant: &str) -> Result<PathBuf> {
    fs::create_dir_all(root).with_context(|| format!("making {}", root.display()))?;
    let root = root.canonicalize()?;
    let number = STARTED.fetch_add(1, Relaxed);
    let directory = root.join(format!("{variant}-{}-{number}", std::process::id()));
    fs::create_dir(&directory).with_context(|| format!("making {}", directory.display()))?;
    Ok(directory)
}

/// The ejabberd.yml of `variant`, whose listeners have these ports; the last is for a connection manager.
fn configuration(variant: &Variant, [c2s, http, link]: [u16; 3], backlog: u32) -> String {
    let link = if variant.ecm.is_some() { ecm::listener(link) } else { String::new() };
    let option = variant.option.map_or_else(String::new, |option| format!("\n    {option}"));
    CONFIG
        .replace("{c2s_port}", &c2s.to_string())
        .replace("{http_port}", &http.to_string())
        .replace("module: {c2s}", &format!("module: {}{option}", variant.c2s_module))
        .replace("module: {http}", &format!("module: {}{option}", variant.http_module))
        .replace("{link}", &link)
        .replace("{backlog}", &backlog.to_string())
}

/// Loopback ports that were free a moment ago, and that no client is given meanwhile: they are below those that
/// Linux chooses by itself.
fn free_ports<const N: usize>() -> Result<[SocketAddr; N]> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    // Runs beside each other begin at different places, and no server meets its predecessor's connections.
    let number = STARTED.load(Relaxed) as u32;
    let start = std::process::id().wrapping_mul(97).wrapping_add(number.wrapping_mul(N as u32));
    let free = (0..COUNT)
        .map(|step| (FIRST + start.wrapping_add(step) % COUNT) as u16)
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok());
    let free: Vec<SocketAddr> = free.take(N).collect();
    <[SocketAddr; N]>::try_from(free).ok().context("no free port on 127.0.0.1")
}

/// Compiled outside the node, so that the compiler is not part of what is measured.
fn compile_control(directory: &Path) -> Result<()> {
    let source = directory.join("megaphone_bench_control.erl");
    fs::write(&source, CONTROL)?;
    compile(Command::new("erlc").arg("-o").arg(directory).arg(&source))?;
    let source = directory.join("malloc.c");
    fs::write(&source, MALLOC)?;
    let library = directory.join("megaphone_bench_malloc.so");
    let include = Path::new(&variant::ask_erlang("code:root_dir()")?).join("usr/include");
    compile(
        Command::new("cc").args(["-shared", "-fPIC", "-I"]).args([&include, &source]).arg("-o").arg(library),
    )
}

fn compile(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&said));
    }
    Ok(())
}

fn command(variant: &Variant, setup: &Setup, directory: &Path) -> Result<Command> {
    let mut command = Command::new("erl");
    command.arg("-noshell").arg("-pa").arg(directory).arg(variant::ejabberd_ebin()?);
    command.args(&variant.code_path);
    let processes = (setup.users * 4).max(262_144).to_string();
    let ports = (setup.users * 2).max(65_536).to_string();
    command.args(["+K", "true", "+P", &processes, "+Q", &ports]);
    // By default schedulers without work spin a while before they sleep. That counts as processor time, and the
    // less a server has to do the more of it there is.
    command.args(["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"]);
    command.args(["-mnesia", "dir"]).arg(format!("\"{}\"", directory.join("mnesia").display()));
    command.args(["-s", "ejabberd", "-s", "megaphone_bench_control"]);
    command
        .env("ERL_LIBS", variant::DEBIAN_LIBRARIES)
        .env("EJABBERD_CONFIG_PATH", directory.join("ejabberd.yml"))
        .env("EJABBERD_LOG_PATH", directory.join("ejabberd.log"))
        .env("ERL_CRASH_DUMP", directory.join("erl_crash.dump"))
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(directory.join("stderr.log"))?);
    Ok(command)
}

/// A thread passes answers on and keeps the rest in `log`; it ends with the node.
fn read_answers(output: impl Read + Send + 'static, mut log: File) -> Receiver<String> {
    let (sender, answers) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let result = match line.strip_prefix(ANSWER_MARK) {
                Some(answer) => sender.send(answer.to_owned()).map_err(|_| ()),
                None => writeln!(log, "{line}").map_err(|_| ()),
            };
            if result.is_err() {
                return;
            }
        }
    });
    answers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_option_of_a_variant_is_one_of_both_listeners() {
        let stock = Variant::named(variant::STOCK).unwrap();
        let plain = configuration(&stock, [1, 2, 3], 5);
        assert!(
            plain.contains("    port: 1\n    ip: 127.0.0.1\n    module: ejabberd_c2s\n    backlog: 5\n"),
            "{plain}"
        );
        let with = configuration(&Variant { option: Some("pack: off"), ..stock }, [1, 2, 3], 5);
        for module in ["ejabberd_c2s", "ejabberd_http"] {
            assert!(
                with.contains(&format!("    module: {module}\n    pack: off\n    backlog: 5\n")),
                "{with}"
            );
        }
    }
}
