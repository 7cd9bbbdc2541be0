//! Who has a connection: from a handler's start to its end.

use super::*;

impl<H: Host> Connection<H> {
    /// `process` has the connection from here on. False when it has ended already.
    pub(crate) fn attach(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> bool {
        if !cx.sink.watch(process, Owned::Connection(cx.conn)) {
            return false;
        }
        self.attached = Some(Box::new(Attached {
            owner: process,
            options: self.listener.config.options,
            reader: None,
            writers: Vec::new(),
            monitors: Vec::new(),
            in_headers: false,
        }));
        self.phase = Phase::Running;
        self.deadline = 0;
        true
    }

    /// The first one who does something with a started connection has it; the starter's word may be slower.
    pub(super) fn claim(&mut self, cx: &mut Cx<'_, H>, process: H::Process) {
        if self.phase == Phase::Starting && self.link().is_none() {
            // A process that does something is alive; were it not, its operation would find nobody attached.
            self.attach(cx, process);
        }
    }

    /// Somebody was started to have the connection.
    pub(crate) fn handler_started(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> Fate {
        if self.phase != Phase::Starting || self.link().is_some() {
            return Fate::Keep;
        }
        if !self.attach(cx, process) {
            return self.begin_close(cx, false);
        }
        // A listener's options may make it active: then what came before is its to have.
        if self.options().active == Active::Off { Fate::Keep } else { Fate::Look }
    }

    /// Hands a queued connection to `process`.
    pub(crate) fn accepted_by(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> bool {
        self.phase == Phase::Queued && self.attach(cx, process)
    }

    /// Takes the connection from whoever has it: who waits is woken, what it knows the connection by is
    /// stale. A session that holds its request is told.
    pub(crate) fn detach(&mut self, cx: &mut Cx<'_, H>) {
        if let Phase::Held { session, .. } = self.phase {
            self.phase = Phase::Waiting(Stage::New);
            cx.effects.push(Effect::Lost { session, conn: cx.conn });
        }
        let Some(attached) = self.attached.take() else { return };
        cx.sink.unwatch(attached.owner, Owned::Connection(cx.conn));
        cx.conn = cx.conn.next_generation();
        let readers = attached.reader.map(|reader| reader.waiter);
        let monitors = attached.monitors.into_iter().map(|(_, waiter)| waiter);
        let writers = attached.writers.into_iter().map(|(_, waiter)| waiter);
        for waiter in readers.into_iter().chain(writers).chain(monitors) {
            cx.sink.emit(Event::Wake(waiter));
        }
    }
}
