//! Erlang processes as owners of connections: monitors, wake-ups, messages.

use crate::atoms;
use crate::monitors::{self, Entry};
use crate::terms::{self, session_term, socket_term};
use megaphone_core::{Belongings, Conn, Event, Host, ListenerId, Notice, Owned, Sink, XmppId};
use parking_lot::Mutex;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustler::env::{OwnedEnv, SavedTerm};
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, LocalPid, Monitor, Reference, Resource, ResourceArc, Term};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, OnceLock};

/// A local process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pid(pub(crate) LocalPid);

impl std::fmt::Debug for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        OwnedEnv::new().run(|env| write!(f, "{:?}", self.0.encode(env)))
    }
}

/// A message that is built when a process begins to wait, and sent when the wait is over.
pub(crate) struct Waiter {
    to: LocalPid,
    env: OwnedEnv,
    message: SavedTerm,
    /// Of a monitor.
    _entry: Option<Entry>,
}

impl Waiter {
    /// `{'$megaphone', Ref}` to `to`.
    pub(crate) fn wake_up(to: LocalPid, reference: Reference<'_>) -> Self {
        let env = OwnedEnv::new();
        let message = env.save((atoms::dollar_megaphone(), *reference));
        Self { to, env, message, _entry: None }
    }

    /// `{'DOWN', Ref, socket, Socket, closed}` to `to`.
    pub(crate) fn down(to: LocalPid, reference: Reference<'_>, conn: Conn) -> Self {
        let env = OwnedEnv::new();
        let message = env.run(|inner| {
            let down = (
                atoms::down(),
                reference.in_env(inner),
                atoms::socket(),
                socket_term(inner, conn),
                atoms::closed(),
            );
            env.save(down)
        });
        let entry = Entry::new(to, monitors::number(*reference), conn);
        Self { to, env, message, _entry: Some(entry) }
    }
}

/// The host of the core: what it takes from the VM.
pub(crate) struct ErlangHost;

/// The watched processes, in parts with a lock each.
static WATCHES: LazyLock<Box<[ResourceArc<Watches>]>> = LazyLock::new(|| {
    (0..PARTS).map(|_| ResourceArc::new(Watches { by_process: Mutex::default() })).collect()
});
const PARTS: usize = 16;

/// Who logs notices.
static LOG: Mutex<Option<LocalPid>> = Mutex::new(None);

/// Notices that nobody was there to log.
static UNTOLD: Mutex<VecDeque<Notice>> = Mutex::new(VecDeque::new());
/// How many of them are kept. Each kind comes once a minute at most.
const MAX_UNTOLD: usize = 16;

/// What a process of the VM's has to send for the reactors.
///
/// What a thread of ours sends is allocated there, and the VM has such blocks freed by its auxiliary thread, which has to be
/// woken for each: 20 microseconds a message. So a reactor writes a byte into a pipe, which is a port of that
/// process; and while that has not had its turn, more gathers without any.
static WAKER: Mutex<Waker> = Mutex::new(Waker { pipes: VecDeque::new(), deferred: VecDeque::new() });

struct Waker {
    /// Where to read, for the port, and where to write. The last is the present port's.
    pipes: VecDeque<(OwnedFd, OwnedFd)>,
    deferred: VecDeque<Deferred>,
}

/// Messages that are short to build, and whose order among others makes no difference. Bounded: each is the only one of its
/// kind for its session, its wait, or its connection.
enum Deferred {
    Ready(LocalPid),
    Wake(Waiter),
    Start { to: LocalPid, listener: ListenerId, conn: Conn },
    StartXmpp { to: LocalPid, listener: ListenerId, id: XmppId },
}

/// Messages sent in one call, which takes less than 100 microseconds.
const SENT_AT_ONCE: usize = 64;

/// Pipes that are kept for ports to come, the first again when all have been used.
const MAX_PIPES: usize = 16;

/// The descriptor that has a byte to read when there is something to be sent. It stays ours.
///
/// Another one for each port: a port ends some time after its process. Until then it takes bytes that are the next one's,
/// and at its end the VM's attention to the descriptor, though the next port has that by then.
pub(crate) fn waker_fd() -> Result<i32, Errno> {
    let mut waker = WAKER.lock();
    let used = if waker.pipes.len() < MAX_PIPES { None } else { waker.pipes.pop_front() };
    let pipe = match used {
        // What is left in it wakes the process once in vain.
        Some(pipe) => pipe,
        None => rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?,
    };
    let fd = pipe.0.as_raw_fd();
    waker.pipes.push_back(pipe);
    Ok(fd)
}

/// Sends some of what there is. Whether there is more.
pub(crate) fn send_deferred(env: Env<'_>) -> bool {
    let (some, has_more) = {
        let mut waker = WAKER.lock();
        let count = waker.deferred.len().min(SENT_AT_ONCE);
        let some: Vec<Deferred> = waker.deferred.drain(..count).collect();
        (some, !waker.deferred.is_empty())
    };
    let mut sink = CallerSink { env };
    for message in some {
        match message {
            Deferred::Ready(owner) => drop(env.send(&owner, atoms::dollar_recv())),
            Deferred::Wake(waiter) => sink.emit(Event::Wake(waiter)),
            Deferred::Start { to, listener, conn } => sink.emit(Event::Start { to: Pid(to), listener, conn }),
            Deferred::StartXmpp { to, listener, id } => {
                sink.emit(Event::StartXmpp { to: Pid(to), listener, id });
            }
        }
    }
    has_more
}

/// Whose listeners are whose.
static LISTENER_OWNERS: LazyLock<Mutex<HashMap<ListenerId, LocalPid>>> = LazyLock::new(Mutex::default);

/// Who is told that a process has ended, and what it was watched for.
type Down = fn(LocalPid, Belongings, &[ListenerId]);

static DOWN: OnceLock<Down> = OnceLock::new();

/// Sets that, once.
pub(crate) fn on_down(down: Down) {
    DOWN.get_or_init(|| down);
}

/// `log` gets the notices from here on, and those that came while there was none.
pub(crate) fn set_log(env: Env<'_>, log: LocalPid) {
    *LOG.lock() = Some(log);
    let untold = std::mem::take(&mut *UNTOLD.lock());
    let mut sink = CallerSink { env };
    untold.into_iter().for_each(|notice| sink.emit(Event::Notice(notice)));
}

fn keep(notice: Notice) {
    let mut untold = UNTOLD.lock();
    if untold.len() < MAX_UNTOLD {
        untold.push_back(notice);
    }
}

/// Some of the watched processes. A resource for many connections: a monitor's origin each would be dearer.
pub(crate) struct Watches {
    by_process: Mutex<HashMap<LocalPid, Watch>>,
}

struct Watch {
    monitor: Monitor,
    subjects: Belongings,
}

#[rustler::resource_impl]
impl Resource for Watches {
    /// On a scheduler, which is not to be kept by what the process had, however much that is.
    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        // A panic here would end the VM.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let watch = self.by_process.lock().remove(&pid);
            if let (Some(watch), Some(down)) = (watch, DOWN.get()) {
                down(pid, watch.subjects, &take_listeners(pid));
            }
        }));
    }
}

fn part(pid: LocalPid) -> &'static ResourceArc<Watches> {
    &WATCHES[BuildHasherDefault::<DefaultHasher>::default().hash_one(pid) as usize % PARTS]
}

/// The listener closes when `process` ends. False when it has ended already.
pub(crate) fn watch_listener(env: Env<'_>, process: LocalPid, listener: ListenerId) -> bool {
    LISTENER_OWNERS.lock().insert(listener, process);
    add(Some(env), process, Owned::Listener(listener))
}

/// Those of a process that has ended.
fn take_listeners(pid: LocalPid) -> Vec<ListenerId> {
    LISTENER_OWNERS.lock().extract_if(|_, owner| *owner == pid).map(|(listener, _)| listener).collect()
}

/// Takes that back.
pub(crate) fn unwatch_listener(env: Env<'_>, listener: ListenerId) {
    let process = LISTENER_OWNERS.lock().remove(&listener);
    if let Some(process) = process {
        remove(Some(env), process, Owned::Listener(listener));
    }
}

/// The core's word that something is no longer a process's.
fn unwatch(env: Option<Env<'_>>, process: LocalPid, owned: Owned) {
    if let Owned::Listener(listener) = owned {
        LISTENER_OWNERS.lock().remove(&listener);
    }
    remove(env, process, owned);
}

fn add(env: Option<Env<'_>>, pid: LocalPid, subject: Owned) -> bool {
    let part = part(pid);
    let mut by_process = part.by_process.lock();
    if let Some(watch) = by_process.get_mut(&pid) {
        watch.subjects.insert(subject);
        return true;
    }
    let Some(monitor) = part.monitor(env, &pid) else { return false };
    by_process.insert(pid, Watch { monitor, subjects: [subject].into_iter().collect() });
    true
}

fn remove(env: Option<Env<'_>>, pid: LocalPid, subject: Owned) {
    let part = part(pid);
    let mut by_process = part.by_process.lock();
    let Some(watch) = by_process.get_mut(&pid) else { return };
    watch.subjects.remove(subject);
    if watch.subjects.is_empty() {
        // False when it has fired already: `down` then finds nothing.
        part.demonitor(env, &watch.monitor);
        by_process.remove(&pid);
    }
}

impl Host for ErlangHost {
    type Process = Pid;
    type Waiter = Waiter;

    fn is_alive(&self, process: Pid) -> bool {
        OwnedEnv::new().run(|env| process.0.is_alive(env))
    }

    fn thread_sink(&self) -> Box<dyn Sink<Self>> {
        Box::new(ThreadSink { env: OwnedEnv::new() })
    }
}

/// Sends from a NIF call, which the VM allows with the caller's environment only.
pub(crate) struct CallerSink<'a> {
    pub(crate) env: Env<'a>,
}

impl Sink<ErlangHost> for CallerSink<'_> {
    fn emit(&mut self, event: Event<'_, ErlangHost>) {
        // To a process that is no more, a message is lost, as any.
        let _ = match event {
            Event::Wake(waiter) => {
                let message = waiter.env.run(|inner| waiter.message.load(inner).in_env(self.env));
                self.env.send(&waiter.to, message)
            }
            event => {
                each_message(&event, |to, build| self.env.send(to, build(self.env)).is_ok());
                Ok(())
            }
        };
    }

    fn watch(&mut self, process: Pid, owned: Owned) -> bool {
        add(Some(self.env), process.0, owned)
    }

    fn unwatch(&mut self, process: Pid, owned: Owned) {
        unwatch(Some(self.env), process.0, owned);
    }
}

/// Sends from a thread of ours.
struct ThreadSink {
    env: OwnedEnv,
}

impl Sink<ErlangHost> for ThreadSink {
    fn emit(&mut self, event: Event<'_, ErlangHost>) {
        match event {
            Event::XmppReady { to, .. } => self.defer(Deferred::Ready(to.0)),
            Event::Wake(waiter) => self.defer(Deferred::Wake(waiter)),
            Event::Start { to, listener, conn } => {
                self.defer(Deferred::Start { to: to.0, listener, conn });
            }
            Event::StartXmpp { to, listener, id } => {
                self.defer(Deferred::StartXmpp { to: to.0, listener, id });
            }
            event => each_message(&event, |to, build| self.env.send_and_clear(to, build).is_ok()),
        }
    }

    fn watch(&mut self, process: Pid, owned: Owned) -> bool {
        add(None, process.0, owned)
    }

    fn unwatch(&mut self, process: Pid, owned: Owned) {
        unwatch(None, process.0, owned);
    }
}

impl ThreadSink {
    /// At most one byte is in the pipe for each time that all was sent: it is never full.
    fn defer(&mut self, message: Deferred) {
        let mut waker = WAKER.lock();
        waker.deferred.push_back(message);
        if let (Some((_, write)), 1) = (waker.pipes.back(), waker.deferred.len()) {
            // Fails only when it is full, and then the process is awake.
            let _ = rustix::io::write(write, b"!");
        }
    }
}

type Build<'b> = dyn for<'a> Fn(Env<'a>) -> Term<'a> + 'b;

/// The messages that an event becomes. `send` tells whether there was somebody to get it: otherwise a message is lost, as
/// any, but for notices.
fn each_message(event: &Event<'_, ErlangHost>, mut send: impl FnMut(&LocalPid, &Build<'_>) -> bool) {
    match event {
        // Wake-ups are built in advance, and are the sinks' own.
        Event::Wake(_) => {}
        Event::Start { to, listener, conn } => {
            send(&to.0, &|env| (atoms::dollar_start(), listener.0, conn.as_u64()).encode(env));
        }
        Event::StartXmpp { to, listener, id } => {
            send(&to.0, &|env| (atoms::dollar_start(), listener.0, session_term(env, *id)).encode(env));
        }
        Event::XmppReady { to, .. } => {
            send(&to.0, &|env| atoms::dollar_recv().encode(env));
        }
        Event::Data { to, conn, packet, delivery } => {
            send(&to.0, &|env| {
                let tag = if terms::is_http(packet) { atoms::http() } else { atoms::tcp() };
                (tag, socket_term(env, *conn), terms::packet(env, packet, *delivery)).encode(env)
            });
        }
        Event::Passive { to, conn } => {
            send(&to.0, &|env| (atoms::tcp_passive(), socket_term(env, *conn)).encode(env));
        }
        Event::Closed { to, conn, error } => {
            if let Some(errno) = error {
                send(&to.0, &|env| {
                    (atoms::tcp_error(), socket_term(env, *conn), terms::errno(env, *errno)).encode(env)
                });
            }
            send(&to.0, &|env| (atoms::tcp_closed(), socket_term(env, *conn)).encode(env));
        }
        Event::Notice(notice) => {
            let log = *LOG.lock();
            let is_told = log.is_some_and(|log| send(&log, &|env| notice_term(env, notice)));
            if !is_told {
                keep(notice.clone());
            }
        }
    }
}

fn notice_term<'a>(env: Env<'a>, notice: &Notice) -> Term<'a> {
    let reason = |error: &Option<_>| match error {
        Some(errno) => terms::errno(env, *errno),
        None => atoms::max_connections().encode(env),
    };
    let (kind, details): (_, Vec<(_, Term<'a>)>) = match notice {
        Notice::AcceptPaused { listener, connections, error } => (
            atoms::accept_paused(),
            vec![
                (atoms::listener(), listener.0.encode(env)),
                (atoms::connections(), connections.encode(env)),
                (atoms::reason(), reason(error)),
            ],
        ),
        Notice::AcceptResumed { listener } => {
            (atoms::accept_resumed(), vec![(atoms::listener(), listener.0.encode(env))])
        }
        Notice::AcceptFailed { listener, error } => (
            atoms::accept_failed(),
            vec![(atoms::listener(), listener.0.encode(env)), (atoms::reason(), terms::errno(env, *error))],
        ),
        Notice::RegisterFailed { listener, error } => (
            atoms::register_failed(),
            vec![(atoms::listener(), listener.0.encode(env)), (atoms::reason(), terms::errno(env, *error))],
        ),
        Notice::Panicked { conn } => (
            atoms::reactor_panic(),
            vec![(
                atoms::conn(),
                conn.map_or(atoms::undefined().encode(env), |conn| conn.as_u64().encode(env)),
            )],
        ),
        Notice::StartTimeout { listener } => {
            (atoms::start_timeout(), vec![(atoms::listener(), listener.0.encode(env))])
        }
        Notice::ProxyRefused { listener, peer, why } => (
            atoms::proxy_refused(),
            vec![
                (atoms::listener(), listener.0.encode(env)),
                (
                    atoms::peer(),
                    peer.map_or_else(|| atoms::undefined().encode(env), |peer| terms::ip_address(env, peer)),
                ),
                (atoms::reason(), terms::proxy_refusal(env, *why)),
            ],
        ),
        Notice::LinkUp { .. }
        | Notice::LinkCut { .. }
        | Notice::LinkResumed { .. }
        | Notice::LinkLost { .. }
        | Notice::LinkRefused { .. } => link_notice(env, notice),
    };
    (atoms::dollar_notice(), kind, terms::map(env, &details)).encode(env)
}

/// What happens to links of connection managers. Reasons are texts, in a binary.
fn link_notice<'a>(env: Env<'a>, notice: &Notice) -> (Atom, Vec<(Atom, Term<'a>)>) {
    let peer_term = |peer: &Option<_>| {
        peer.map_or_else(|| atoms::undefined().encode(env), |peer| terms::ip_address(env, peer))
    };
    let (kind, listener, details) = match notice {
        Notice::LinkUp { listener, ecm, peer } | Notice::LinkResumed { listener, ecm, peer } => {
            let is_new = matches!(notice, Notice::LinkUp { .. });
            let kind = if is_new { atoms::link_up() } else { atoms::link_resumed() };
            (kind, listener, vec![(atoms::ecm(), (**ecm).encode(env)), (atoms::peer(), peer_term(peer))])
        }
        Notice::LinkCut { listener, ecm, streams } => (
            atoms::link_cut(),
            listener,
            vec![(atoms::ecm(), (**ecm).encode(env)), (atoms::streams(), streams.encode(env))],
        ),
        Notice::LinkLost { listener, ecm, streams, cause } => (
            atoms::link_lost(),
            listener,
            vec![
                (atoms::ecm(), (**ecm).encode(env)),
                (atoms::streams(), streams.encode(env)),
                (atoms::reason(), cause.to_string().encode(env)),
            ],
        ),
        Notice::LinkRefused { listener, peer, why } => (
            atoms::link_refused(),
            listener,
            vec![(atoms::peer(), peer_term(peer)), (atoms::reason(), why.to_string().encode(env))],
        ),
        _ => return (atoms::undefined(), Vec::new()),
    };
    (kind, [vec![(atoms::listener(), listener.0.encode(env))], details].concat())
}
