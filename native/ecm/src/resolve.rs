//! Names of hosts, on threads of their own: the system's resolver takes its time.

use crate::mail::{Mail, Post};
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Names that are asked for at a time: one whose servers are silent holds up no other.
const THREADS: usize = 4;
/// Questions that may wait. A link that finds no room asks again later.
const MOST: usize = 256;
/// Addresses of a name that are tried.
const ADDRESSES: usize = 16;

/// Asks for a name's addresses.
#[derive(Clone)]
pub(crate) struct Resolver(SyncSender<Question>);

struct Question {
    name: Box<str>,
    link: u16,
    ticket: u32,
    post: Post,
}

impl Resolver {
    /// Its threads end with the last of its copies.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(MOST);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..THREADS {
            let receiver = Arc::clone(&receiver);
            std::thread::Builder::new().name("ecm-resolver".into()).spawn(move || serve(&receiver))?;
        }
        Ok(Self(sender))
    }

    /// The answer is a letter to `post`. False when too many questions wait.
    pub(crate) fn ask(&self, name: &str, link: u16, ticket: u32, post: &Post) -> bool {
        self.0.try_send(Question { name: name.into(), link, ticket, post: post.clone() }).is_ok()
    }
}

fn serve(questions: &Mutex<Receiver<Question>>) {
    loop {
        let question = questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Question { name, link, ticket, post }) = question else { return };
        // A worker that has ended wants no answer.
        post.send(Mail::Resolved(link, ticket, resolve(&name)));
    }
}

fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = (name, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    let addresses: Vec<_> = found.map(|address| address.ip()).take(ADDRESSES).collect();
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}
