//! Health and metrics over HTTP, on loopback: `/healthz`, `/readyz`, `/metrics`.
//!
//! Each connection has a thread for its one request, since few ask, and seldom; their number and their time are bounded.

mod exchange;
mod metrics;

pub use crate::service_thread::Handle;

use crate::control::Control;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Connections at a time. Others are closed.
const MAX_CONNECTIONS: usize = 16;

/// After an accept that failed for want of descriptors.
const RETRY: Duration = Duration::from_millis(500);

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);

/// Starts the endpoint in a thread of its own. Whoever can connect may read, so the address is to be one of loopback. It takes no
/// more connections when its handle is dropped; answers that were begun have threads of their own.
///
/// # Errors
/// The address can't be listened on.
pub fn start(listen: SocketAddr, control: Arc<dyn Control>) -> io::Result<Handle> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let mut listener = TcpListener::bind(listen)
        .map_err(|error| io::Error::new(error.kind(), format!("[http] can't listen on {listen}: {error}")))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let address = listener.local_addr()?;
    let is_over = Arc::new(AtomicBool::new(false));
    let server = Server { poll, listener, control, is_over: is_over.clone(), places: Arc::new(()) };
    let handle =
        Handle::spawn(("the HTTP endpoint", "ecm_http"), address, (is_over, waker), move || server.run())?;
    tracing::info!(%address, "HTTP endpoint listens");
    Ok(handle)
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    control: Arc<dyn Control>,
    is_over: Arc<AtomicBool>,
    /// Each connection has a clone.
    places: Arc<()>,
}

impl Server {
    fn run(mut self) {
        let mut events = Events::with_capacity(2);
        let mut timeout = None;
        while !self.is_over.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => timeout = self.accept(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(%error, "the HTTP endpoint ends: its socket can't be waited for");
                    return;
                }
            }
        }
    }

    /// All that wait. When there was an error, says after how long to try again.
    fn accept(&self) -> Option<Duration> {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => self.serve(socket),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::warn!(%error, "the HTTP endpoint can't accept");
                    return Some(RETRY);
                }
            }
        }
    }

    fn serve(&self, socket: TcpStream) {
        if Arc::strong_count(&self.places) > MAX_CONNECTIONS {
            tracing::debug!("closed an HTTP connection: {MAX_CONNECTIONS} are open");
            return;
        }
        let (place, control) = (self.places.clone(), self.control.clone());
        let thread = std::thread::Builder::new().name("ecm_http_answer".into());
        let spawned = thread.spawn(move || {
            let result = exchange::serve(socket.into(), &*control);
            drop(place);
            // A client that went or was too slow.
            result.unwrap_or_else(|error| tracing::debug!(%error, "an HTTP connection failed"));
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for an HTTP connection");
        }
    }
}
