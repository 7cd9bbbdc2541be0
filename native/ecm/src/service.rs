//! The program as a whole: starts the workers, asks them, tells them, and waits for their end.

use crate::control::Control;
use crate::mail::{Mail, Mailbox, Plan, PlannedListener, Post, Report, mailbox};
use crate::notes::Notes;
use crate::office::{Happening, Office, lock};
use crate::resolve::Resolver;
use crate::settings::{self, Environment, Listener, Settings};
use crate::sys;
use crate::worker::{Shared, Worker};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long the workers may take for a new configuration.
const APPLIED: Duration = Duration::from_secs(10);

/// What the service is about, for whoever has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The file is read anew.
    Reloading,
    /// It serves.
    Ready,
    /// It takes no more clients, and will end.
    Stopping,
    /// All workers have answered.
    Alive,
}

/// The running program.
pub struct Service {
    office: Arc<Office>,
    happenings: Receiver<Happening>,
    file: PathBuf,
    environment: Environment,
    settings: Settings,
    plan: Plan,
}

impl Service {
    /// Listens and connects. To be called by the main thread before anything else has opened sockets: workers inherit copies
    /// of all descriptors that are there.
    pub fn start(file: &Path, settings: Settings, environment: &Environment) -> Result<Self, String> {
        raise_limit().map_err(|error| format!("the limit of descriptors can't be raised: {error}"))?;
        let (tell, happenings) = channel();
        // Before the workers: a handler may run on any thread, and finds its pipe by number.
        watch_signals(tell.clone()).map_err(|error| format!("signals can't be handled: {error}"))?;
        let workers = settings.workers;
        let boxes: Result<Vec<_>, _> = (0..workers).map(|_| mailbox()).collect();
        let boxes = boxes.map_err(|error| format!("no mailbox for a worker: {error}"))?;
        let resolver = Resolver::start().map_err(|error| format!("no thread for names: {error}"))?;
        let shared = Arc::new(Shared {
            connections: AtomicUsize::new(0),
            max_connections: AtomicUsize::new(settings.max_connections as usize),
            notes: Notes::default(),
            resolver,
        });
        let plan = plan(&settings, &[]);
        let posts: Vec<Post> = boxes.iter().map(|(post, _)| post.clone()).collect();
        for (index, boxes) in boxes.into_iter().enumerate() {
            let crew =
                Crew { index, workers, shared: Arc::clone(&shared), plan: plan.clone(), tell: tell.clone() };
            crew.start(boxes, &happenings)?;
        }
        let office = Arc::new(Office {
            name: settings.link.name.clone(),
            start: Instant::now(),
            reports: Mutex::new(vec![Report::default(); posts.len()]),
            posts,
            shared,
            drain: Mutex::new(settings.drain),
            is_draining: AtomicBool::new(false),
            tell,
        });
        tracing::info!("serving");
        let environment = Environment { workers: Some(workers), ..*environment };
        Ok(Self { office, happenings, file: file.to_owned(), environment, settings, plan })
    }

    /// For whoever shows or commands it.
    pub fn control(&self) -> Arc<dyn Control> {
        Arc::clone(&self.office) as Arc<dyn Control>
    }

    /// Serves until it is drained: after SIGTERM, SIGINT or [`Control::drain`]; a second of these signals ends it at once. SIGHUP
    /// reads the file anew. An error when a worker can't go on. With a `pulse` the workers are asked so often whether they still
    /// answer.
    pub fn wait(mut self, pulse: Option<Duration>, notify: &mut dyn FnMut(Notice)) -> Result<(), String> {
        notify(Notice::Ready);
        let mut left = self.office.posts.len();
        while left > 0 {
            let Some(happening) = self.next(pulse)? else {
                if self.office.is_alive() {
                    notify(Notice::Alive);
                }
                continue;
            };
            match happening {
                Happening::Signal(SIGHUP) => {
                    notify(Notice::Reloading);
                    self.reload();
                    notify(Notice::Ready);
                }
                Happening::Signal(_) if self.office.is_draining.load(Ordering::Relaxed) => {
                    tracing::warn!("told to stop again: the rest of the clients are closed at once");
                    return Ok(());
                }
                Happening::Signal(_) => self.office.begin_drain(None),
                Happening::Draining => notify(Notice::Stopping),
                Happening::Ended(ended) => {
                    ended?;
                    left -= 1;
                }
                Happening::Started(_) => {}
            }
        }
        tracing::info!("all clients are gone");
        Ok(())
    }

    /// None when nothing happens for so long.
    fn next(&self, pulse: Option<Duration>) -> Result<Option<Happening>, String> {
        let received = match pulse {
            Some(pulse) => self.happenings.recv_timeout(pulse),
            None => self.happenings.recv().map_err(Into::into),
        };
        match received {
            Ok(happening) => Ok(Some(happening)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("no thread is left".to_owned()),
        }
    }

    fn reload(&mut self) {
        let settings = match settings::load(&self.file, &self.environment) {
            Ok(settings) => settings,
            Err(problems) => {
                tracing::error!("the configuration stays as it was, for the file is wrong:\n{problems}");
                return;
            }
        };
        for what in self.fixed(&settings) {
            tracing::warn!("{what} can't change while the program runs: restart it for that");
        }
        let name = std::mem::take(&mut self.settings.link.name);
        self.settings = settings;
        self.settings.link.name = name;
        self.plan = plan(&self.settings, &self.plan.listeners);
        *lock(&self.office.drain) = self.settings.drain;
        self.office.shared.max_connections.store(self.settings.max_connections as usize, Ordering::Relaxed);
        let plan = &self.plan;
        let answers = self.office.ask(APPLIED, |reply| Mail::Apply(Box::new(plan.clone()), reply));
        for worker in (0..answers.len()).filter(|worker| answers[*worker].is_none()) {
            tracing::error!(worker, "a worker has not taken the configuration yet; send SIGHUP again");
        }
        let mut problems: Vec<_> = answers.into_iter().flatten().flatten().collect();
        problems.sort();
        problems.dedup();
        for problem in problems {
            tracing::error!("can't listen at {problem}");
        }
        tracing::info!(
            listeners = self.settings.listeners.len(),
            nodes = self.settings.nodes.len(),
            max_connections = self.settings.max_connections,
            "configuration read anew"
        );
    }

    /// What is another in the file and stays as it was.
    fn fixed(&self, new: &Settings) -> Vec<&'static str> {
        let old = &self.settings;
        let node = |settings: &Settings| {
            settings.erlang_node.as_ref().map(|node| (node.name.clone(), node.cookie.clone()))
        };
        let differing = [
            ("name", old.link.name != new.link.name),
            ("[erlang_node]", node(old) != node(new)),
            ("[http]", old.http != new.http),
        ];
        differing.into_iter().filter_map(|(what, differs)| differs.then_some(what)).collect()
    }
}

/// A worker's beginning.
struct Crew {
    index: usize,
    workers: u16,
    shared: Arc<Shared>,
    plan: Plan,
    tell: Sender<Happening>,
}

impl Crew {
    /// Waits until it serves, so that the next one, and who comes after them, opens nothing that it would have copies of.
    fn start(self, boxes: (Post, Mailbox), happenings: &Receiver<Happening>) -> Result<(), String> {
        let name = format!("ecm-worker-{}", self.index);
        let spawned = thread::Builder::new().name(name).spawn(move || self.work(boxes));
        spawned.map_err(|error| format!("no thread for a worker: {error}"))?;
        loop {
            match happenings.recv() {
                Ok(Happening::Started(problems)) if problems.is_empty() => return Ok(()),
                Ok(Happening::Started(problems)) => {
                    return Err(format!("can't listen at {}", problems.join(", ")));
                }
                Ok(Happening::Ended(Err(error))) => return Err(error),
                Ok(Happening::Signal(SIGHUP) | Happening::Draining) => {}
                Ok(Happening::Signal(_) | Happening::Ended(Ok(()))) | Err(_) => {
                    return Err("told to stop before it served".to_owned());
                }
            }
        }
    }

    /// A worker that panics takes the program with it: what it had of its links and clients can't be trusted, and who watches
    /// over the program starts it anew.
    fn work(self, boxes: (Post, Mailbox)) {
        let tell = self.tell.clone();
        let index = self.index;
        let ended = caught(|| self.serve(boxes));
        // At the end of the program nobody is there to hear it.
        let _ = tell.send(Happening::Ended(ended.map_err(|error| format!("worker {index}: {error}"))));
    }

    fn serve(self, boxes: (Post, Mailbox)) -> Result<(), String> {
        if self.workers > 1 {
            sys::own_descriptors().map_err(|error| {
                format!("no table of descriptors of its own: {error}; set workers = 1, or permit unshare")
            })?;
        }
        let index = u8::try_from(self.index).map_err(|_| "too many workers".to_owned())?;
        let made = Worker::new((index, self.workers), boxes, self.shared, &self.plan);
        let (mut worker, problems) = made.map_err(|error| error.to_string())?;
        let is_fine = problems.is_empty();
        // Received by `start`.
        let _ = self.tell.send(Happening::Started(problems));
        if !is_fine {
            return Ok(());
        }
        worker.run().map_err(|error| error.to_string())
    }
}

fn plan(settings: &Settings, old: &[PlannedListener]) -> Plan {
    let listener = |listener: &Listener| {
        let same = old.iter().find(|old| old.settings.listen == listener.listen);
        let connections = same.map_or_else(Arc::default, |same| Arc::clone(&same.connections));
        PlannedListener { settings: Arc::new(listener.clone()), connections }
    };
    Plan {
        link: Arc::new(settings.link.clone()),
        balance: settings.balance,
        listeners: settings.listeners.iter().map(listener).collect(),
        nodes: settings.nodes.clone(),
        drain: settings.drain,
    }
}

fn watch_signals(tell: Sender<Happening>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let forward = move || {
        for signal in signals.forever() {
            if tell.send(Happening::Signal(signal)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("ecm-signals".into()).spawn(forward).map(drop)
}

/// A panic as an error. Its message is on stderr already.
fn caught(serve: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(serve)).unwrap_or_else(|_| Err("it panicked, see above".to_owned()))
}

/// What a process may have is the hard limit; what it gets without asking is less.
fn raise_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::panic)]
    fn a_panic_is_an_error() {
        assert_eq!(caught(|| panic!("a fault")), Err("it panicked, see above".to_owned()));
        assert_eq!(caught(|| Ok(())), Ok(()));
    }
}
