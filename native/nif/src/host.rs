//! Erlang processes as owners of connections: monitors, wake-ups, messages.

use crate::terms::{self, socket_term};
use crate::xmpp::{events, session_term};
use crate::{SYSTEM, atoms};
use megaphone_core::{Conn, Event, Host, ListenerId, Notice, Owned, Sink};
use parking_lot::Mutex;
use rustler::env::{OwnedEnv, SavedTerm};
use rustler::{Encoder, Env, LocalPid, Monitor, Reference, Resource, ResourceArc, Term};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

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
}

impl Waiter {
    /// `{'$megaphone', Ref}` to `to`.
    pub(crate) fn wake_up(to: LocalPid, reference: Reference<'_>) -> Self {
        let env = OwnedEnv::new();
        let message = env.save((atoms::dollar_megaphone(), *reference));
        Self { to, env, message }
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
        Self { to, env, message }
    }
}

/// The host of the core: what it takes from the VM.
pub(crate) struct ErlangHost {
    watches: Box<[ResourceArc<Watches>]>,
    /// Who logs notices.
    pub(crate) log: Mutex<Option<LocalPid>>,
    listener_owners: Mutex<HashMap<ListenerId, LocalPid>>,
}

/// Some of the watched processes. A resource for many connections: a monitor's origin each would be dearer.
pub(crate) struct Watches {
    by_process: Mutex<HashMap<LocalPid, Watch>>,
}

struct Watch {
    monitor: Monitor,
    subjects: SmallVec<[Subject; 1]>,
}

/// What ends with a process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Owned(Owned),
    Listener(ListenerId),
}

#[rustler::resource_impl]
impl Resource for Watches {
    fn down<'a>(&'a self, env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        // A panic here would end the VM.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let watch = self.by_process.lock().remove(&pid);
            let (Some(watch), Some(system)) = (watch, SYSTEM.get()) else { return };
            for subject in watch.subjects {
                let sink = &mut CallerSink { env };
                match subject {
                    Subject::Owned(owned) => system.owner_down(owned, Pid(pid), sink),
                    // Closed by itself meanwhile is as good.
                    Subject::Listener(listener) => {
                        system.host().listener_owners.lock().remove(&listener);
                        let _ = system.close_listener(listener, sink);
                    }
                }
            }
        }));
    }
}

impl ErlangHost {
    const PARTS: usize = 16;

    pub(crate) fn new() -> Self {
        let part = || ResourceArc::new(Watches { by_process: Mutex::default() });
        Self {
            watches: (0..Self::PARTS).map(|_| part()).collect(),
            log: Mutex::new(None),
            listener_owners: Mutex::default(),
        }
    }

    fn part(&self, pid: LocalPid) -> &ResourceArc<Watches> {
        &self.watches[BuildHasherDefault::<DefaultHasher>::default().hash_one(pid) as usize % Self::PARTS]
    }
}

impl ErlangHost {
    /// The listener closes when `process` ends. False when it has ended already.
    pub(crate) fn watch_listener(&self, env: Env<'_>, process: LocalPid, listener: ListenerId) -> bool {
        self.listener_owners.lock().insert(listener, process);
        self.add(Some(env), process, Subject::Listener(listener))
    }

    /// Takes that back.
    pub(crate) fn unwatch_listener(&self, env: Env<'_>, listener: ListenerId) {
        if let Some(process) = self.listener_owners.lock().remove(&listener) {
            self.remove(Some(env), process, Subject::Listener(listener));
        }
    }

    fn add(&self, env: Option<Env<'_>>, pid: LocalPid, subject: Subject) -> bool {
        let part = self.part(pid);
        let mut by_process = part.by_process.lock();
        if let Some(watch) = by_process.get_mut(&pid) {
            watch.subjects.push(subject);
            return true;
        }
        let Some(monitor) = part.monitor(env, &pid) else { return false };
        by_process.insert(pid, Watch { monitor, subjects: SmallVec::from_elem(subject, 1) });
        true
    }

    fn remove(&self, env: Option<Env<'_>>, pid: LocalPid, subject: Subject) {
        let part = self.part(pid);
        let mut by_process = part.by_process.lock();
        let Some(watch) = by_process.get_mut(&pid) else { return };
        if let Some(at) = watch.subjects.iter().position(|other| *other == subject) {
            watch.subjects.swap_remove(at);
        }
        if watch.subjects.is_empty() {
            // False when it has fired already: `down` then finds nothing.
            part.demonitor(env, &watch.monitor);
            by_process.remove(&pid);
        }
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
                each_message(&event, |to, build| {
                    let _ = self.env.send(to, build(self.env));
                });
                Ok(())
            }
        };
    }

    fn watch(&mut self, process: Pid, owned: Owned) -> bool {
        watch(Some(self.env), process, owned)
    }

    fn unwatch(&mut self, process: Pid, owned: Owned) {
        unwatch(Some(self.env), process, owned);
    }
}

fn watch(env: Option<Env<'_>>, process: Pid, owned: Owned) -> bool {
    SYSTEM.get().is_some_and(|system| system.host().add(env, process.0, Subject::Owned(owned)))
}

fn unwatch(env: Option<Env<'_>>, process: Pid, owned: Owned) {
    if let Some(system) = SYSTEM.get() {
        system.host().remove(env, process.0, Subject::Owned(owned));
    }
}

/// Sends from a thread of ours.
struct ThreadSink {
    env: OwnedEnv,
}

impl Sink<ErlangHost> for ThreadSink {
    fn emit(&mut self, event: Event<'_, ErlangHost>) {
        match event {
            Event::Wake(mut waiter) => {
                let Waiter { to, env, message } = &mut waiter;
                let _ = env.send_and_clear(to, |inner| message.load(inner));
            }
            event => each_message(&event, |to, build| {
                let _ = self.env.send_and_clear(to, build);
            }),
        }
    }

    fn watch(&mut self, process: Pid, owned: Owned) -> bool {
        watch(None, process, owned)
    }

    fn unwatch(&mut self, process: Pid, owned: Owned) {
        unwatch(None, process, owned);
    }
}

type Build<'b> = dyn for<'a> Fn(Env<'a>) -> Term<'a> + 'b;

/// The messages that an event becomes.
fn each_message(event: &Event<'_, ErlangHost>, mut send: impl FnMut(&LocalPid, &Build<'_>)) {
    match event {
        // Wake-ups are built in advance, and are the sinks' own.
        Event::Wake(_) => {}
        Event::Start { to, listener, conn } => {
            send(&to.0, &|env| (atoms::dollar_start(), listener.0, conn.as_u64()).encode(env))
        }
        Event::StartXmpp { to, listener, id } => {
            send(&to.0, &|env| (atoms::dollar_start(), listener.0, session_term(env, *id)).encode(env))
        }
        Event::Xmpp { to, event } => send(&to.0, &|env| events::message(env, event)),
        Event::Data { to, conn, packet, delivery } => send(&to.0, &|env| {
            let tag = if terms::is_http(packet) { atoms::http() } else { atoms::tcp() };
            (tag, socket_term(env, *conn), terms::packet(env, packet, *delivery)).encode(env)
        }),
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
            let log = SYSTEM.get().and_then(|system| *system.host().log.lock());
            if let Some(log) = log {
                send(&log, &|env| notice_term(env, notice));
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
    };
    (atoms::dollar_notice(), kind, terms::map(env, &details)).encode(env)
}
