//! What lies between a connection manager and its node when links are to break: connections are passed on, cut off, or slowed
//! down.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A running relay. Its threads end with this program.
pub(crate) struct Relay {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    /// Bytes a second in each direction of each connection.
    pace: Option<f64>,
    /// Both ends of what there is.
    ends: Vec<TcpStream>,
}

impl Relay {
    /// Passes on to `target`.
    ///
    /// # Errors
    /// When there is no port.
    pub(crate) fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening for links")?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::Builder::new().name("relay".to_owned()).spawn(move || {
            for near in listener.incoming().flatten() {
                if !lock(&shared).is_cut
                    && let Ok(far) = TcpStream::connect(target)
                {
                    pass_on(near, far, &shared);
                }
            }
        })?;
        Ok(Self { address, state })
    }

    /// Resets all connections, and closes new ones, until [`mend`](Self::mend).
    pub(crate) fn cut(&self) {
        let mut state = lock(&self.state);
        state.is_cut = true;
        for end in state.ends.drain(..) {
            // One that is closed already is as good.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Passes on again.
    pub(crate) fn mend(&self) {
        lock(&self.state).is_cut = false;
    }

    /// Passes on so many bytes a second at most, each way; none: as many as come.
    pub(crate) fn slow_down(&self, pace: Option<f64>) {
        lock(&self.state).pace = pace;
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread each way. A connection for which there is none ends.
fn pass_on(near: TcpStream, far: TcpStream, shared: &Arc<Mutex<State>>) {
    let copies = || {
        for end in [&near, &far] {
            end.set_nodelay(true)?;
        }
        std::io::Result::Ok([near.try_clone()?, far.try_clone()?, near.try_clone()?, far.try_clone()?])
    };
    let Ok([near_in, far_out, near_out, far_in]) = copies() else { return };
    lock(shared).ends.extend([near, far]);
    for (from, to) in [(near_in, far_out), (far_in, near_out)] {
        let shared = Arc::clone(shared);
        thread::spawn(move || one_way(from, to, &shared));
    }
}

fn one_way(mut from: TcpStream, mut to: TcpStream, shared: &Mutex<State>) {
    let mut buffer = vec![0; 16 * 1024];
    let mut due = Instant::now();
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if let Some(pace) = lock(shared).pace {
            due = due.max(Instant::now()) + Duration::from_secs_f64(n as f64 / pace);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        // The other way may have done so.
        let _ = end.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn connections_pass_until_they_are_cut_and_again_when_it_is_mended() {
        let node = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::start(node.local_addr().unwrap()).unwrap();
        let mut near = TcpStream::connect(relay.address).unwrap();
        let (mut far, _) = node.accept().unwrap();
        near.write_all(b"ask").unwrap();
        let mut said = [0; 3];
        far.read_exact(&mut said).unwrap();
        far.write_all(b"yes").unwrap();
        near.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"yes");
        relay.cut();
        assert_eq!((near.read(&mut said).unwrap(), far.read(&mut said).unwrap()), (0, 0));
        let mut refused = TcpStream::connect(relay.address).unwrap();
        assert_eq!(refused.read(&mut said).unwrap_or(0), 0);
        relay.mend();
        let mut near = TcpStream::connect(relay.address).unwrap();
        near.write_all(b"now").unwrap();
        node.accept().unwrap().0.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"now");
    }

    #[test]
    fn a_pace_is_kept() {
        let node = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::start(node.local_addr().unwrap()).unwrap();
        relay.slow_down(Some(100_000.0));
        let mut near = TcpStream::connect(relay.address).unwrap();
        let (mut far, _) = node.accept().unwrap();
        let since = Instant::now();
        near.write_all(&[b'x'; 20_000]).unwrap();
        far.read_exact(&mut [0; 20_000]).unwrap();
        // Never less, however slow the machine is.
        assert!(since.elapsed() >= Duration::from_millis(190));
    }
}
