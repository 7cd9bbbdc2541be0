//! What the service manager is told (`sd_notify(3)`): a datagram to the socket that it names. A few lines of the standard
//! library do; crates for it are larger than that.

use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whom to tell. Never waits; what can't be told is logged once, and no reason to stop.
#[derive(Debug)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    has_failed: AtomicBool,
}

impl Notifier {
    /// As the service manager says in `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. Without the first nobody is told.
    pub fn of_process() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let watchdog = number("WATCHDOG_USEC")
            .filter(|_| number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id())));
        Self::new(std::env::var_os("NOTIFY_SOCKET").as_deref(), watchdog.map(Duration::from_micros))
    }

    /// `socket`: a path, or the name of an abstract socket with `@` before it. `watchdog`: how long the manager waits for signs of
    /// life.
    pub fn new(socket: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        let manager = socket.and_then(|name| {
            let reached = reach(name.as_bytes());
            reached
                .inspect_err(|error| tracing::warn!(%error, "the service manager can't be told anything"))
                .ok()
        });
        Self { manager, watchdog, has_failed: AtomicBool::new(false) }
    }

    /// All listeners listen, at the start or after a reload.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is read again. [`ready`](Self::ready) is to follow, also when it is not taken.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        self.tell(format_args!(
            "RELOADING=1\nMONOTONIC_USEC={}",
            now.tv_sec * 1_000_000 + now.tv_nsec / 1000
        ));
    }

    /// It ends, which may take as long as the drain's deadline.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// A line for `systemctl status`.
    pub fn status(&self, text: impl Display) {
        self.tell(format_args!("STATUS={}", text.to_string().replace('\n', " ")));
    }

    /// How often [`alive`](Self::alive) is to be called: half of what the manager waits. None when it does not watch.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|patience| patience / 2)
    }

    /// A sign of life. To be called where it shows that the program works.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, text: impl Display) {
        let Some((socket, manager)) = &self.manager else { return };
        if let Err(error) = socket.send_to_addr(text.to_string().as_bytes(), manager)
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "the service manager was not told");
        }
    }
}

fn reach(name: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 200];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_is_told_by_path_and_by_abstract_name() {
        let name = format!("megaphone-ecm-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let managers = [
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into()),
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
        ];
        for (manager, name) in managers {
            let notifier = Notifier::new(Some(&name), Some(Duration::from_secs(30)));
            notifier.ready();
            assert_eq!(received(&manager), "READY=1");
            notifier.reloading();
            let reloading = received(&manager);
            let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(time.parse::<u64>().is_ok());
            notifier.status("2 of\n3");
            assert_eq!(received(&manager), "STATUS=2 of 3");
            notifier.alive();
            assert_eq!(received(&manager), "WATCHDOG=1");
            notifier.stopping();
            assert_eq!(received(&manager), "STOPPING=1");
            assert_eq!(notifier.watchdog_interval(), Some(Duration::from_secs(15)));
        }
    }

    #[test]
    fn a_manager_that_is_not_there_or_does_not_read_stops_nobody() {
        Notifier::new(None, None).ready();
        Notifier::new(Some(OsStr::new("/nonexistent/notify")), None).ready();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.as_os_str()), None);
        for _ in 0..10_000 {
            notifier.alive();
        }
        assert!(notifier.has_failed.load(Ordering::Relaxed));
        assert_eq!(received(&manager), "WATCHDOG=1");
    }
}
