//! An external connection manager before a server under test: a program of its own, with one link to the node.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::server::Setup;

/// What the program says, in the server's directory.
pub(super) const LOG: &str = "ecm.log";
const SECRET: &str = "ecm.secret";
const CONFIG: &str = "ecm.toml";
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running connection manager.
pub(super) struct Ecm(Child);

/// Where it listens, and where its node does.
pub(super) struct Places {
    pub(super) c2s: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) health: SocketAddr,
    pub(super) link: SocketAddr,
}

impl Ecm {
    /// Starts `program` for the node that runs in `directory`, and waits until it takes clients.
    ///
    /// # Errors
    /// When it does not within 30 s; the error names its log.
    pub(super) fn start(program: &Path, directory: &Path, places: &Places, setup: &Setup) -> Result<Self> {
        fs::write(directory.join(CONFIG), configuration(places, setup))?;
        let child = Command::new(program)
            .arg(directory.join(CONFIG))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join(LOG))?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut ecm = Self(child);
        let ready = ecm.wait_until_ready(places.health);
        if ready.is_err() {
            ecm.stop()?;
        }
        ready.with_context(|| format!("see {}", directory.join(LOG).display()))?;
        Ok(ecm)
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn stop(&mut self) -> std::io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(|_| ())
    }

    fn wait_until_ready(&mut self, health: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !is_ready(health) {
            if let Some(status) = self.0.try_wait()? {
                bail!("megaphone-ecm has ended: {status}");
            }
            if Instant::now() > deadline {
                bail!("megaphone-ecm has no link to the node");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Whether it says that it takes clients.
fn is_ready(health: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(health)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

/// The node's listener for it, in ejabberd.yml.
pub(super) fn listener(port: u16) -> String {
    format!(
        "  -\n    port: {port}\n    ip: 127.0.0.1\n    module: megaphone_ecm\n    secret_file: {SECRET}\n"
    )
}

/// Writes what both ends know, where the node begins.
///
/// # Errors
/// When the file can't be written.
pub(super) fn write_secret(directory: &Path) -> Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(directory.join(SECRET))?;
    // Nobody but these two processes can reach the port of a node that lives for some minutes.
    file.write_all(&[b's'; 64])?;
    Ok(())
}

fn configuration(places: &Places, setup: &Setup) -> String {
    let Places { c2s, http, health, link } = places;
    // BOSH has two connections a user now and then.
    let connections = setup.users * 2 + 1000;
    format!(
        "name = \"ecm\"\nsecret_file = \"{SECRET}\"\nmax_connections = {connections}\n\
         [[listeners]]\nlisten = \"{c2s}\"\nfor = \"c2s\"\n\
         [[listeners]]\nlisten = \"{http}\"\nfor = \"http\"\n\
         [[nodes]]\nname = \"nonode@nohost\"\naddress = \"{}\"\nport = {}\n\
         [http]\nlisten = \"{health}\"\n",
        link.ip(),
        link.port()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_is_not_there_is_not_ready() {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        assert!(!is_ready(free));
    }

    #[test]
    fn ready_is_what_it_says() {
        for (answer, expected) in [("HTTP/1.1 200 OK\r\n\r\n", true), ("HTTP/1.1 503 No\r\n\r\n", false)] {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 1024];
                assert!(stream.read(&mut head).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            });
            assert_eq!(is_ready(address), expected);
            server.join().unwrap();
        }
    }
}
