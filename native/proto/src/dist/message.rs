//! Messages between connected nodes: a control message, at times with a term behind it.

use super::term::Term;
use super::write::Writer;

const LINK: u64 = 1;
const SEND: u8 = 2;
const EXIT: u8 = 3;
const REG_SEND: u64 = 6;
const REG_SEND_TRACED: u64 = 16;
const MONITOR: u64 = 19;
const MONITOR_EXIT: u8 = 21;
const SPAWN_REQUEST: u64 = 29;
const SPAWN_REQUEST_TRACED: u64 = 30;
const SPAWN_REPLY: u8 = 31;
const ALIAS_SEND: u8 = 33;
const UNLINK: u64 = 35;
const UNLINK_ACK: u8 = 36;

/// Before each term.
const VERSION: u8 = 131;

/// What came, as far as it is of use to a node with one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// To the process of a name.
    Send { to: Term<'a>, message: Term<'a> },
    /// Somebody wants to be told when a process ends.
    Monitor { from: Term<'a>, of: Term<'a>, reference: Term<'a> },
    /// Somebody wants to end with a process.
    Link { from: Term<'a>, to: Term<'a> },
    /// No longer; wants to hear that it is so.
    Unlink { id: Term<'a>, from: Term<'a>, to: Term<'a> },
    /// Somebody wants a process to be started. We don't announce that we can.
    Spawn { id: Term<'a>, from: Term<'a> },
    /// Nothing to be done: sends to processes that don't exist, ends of monitors, exits, group leaders.
    Other,
}

impl<'a> Message<'a> {
    /// None when it is none.
    pub(super) fn of(mut bytes: &'a [u8]) -> Option<Self> {
        let control = versioned(&mut bytes)?;
        let operation = control.first()?.unsigned()?;
        match operation {
            REG_SEND => control.tuple().and_then(|[_, _, _, to]| Self::send(to, bytes)),
            REG_SEND_TRACED => control.tuple().and_then(|[_, _, _, to, _]| Self::send(to, bytes)),
            MONITOR => control.tuple().map(|[_, from, of, reference]| Self::Monitor { from, of, reference }),
            LINK => control.tuple().map(|[_, from, to]| Self::Link { from, to }),
            UNLINK => control.tuple().map(|[_, id, from, to]| Self::Unlink { id, from, to }),
            SPAWN_REQUEST => control.tuple().map(|[_, id, from, ..]: [_; 6]| Self::Spawn { id, from }),
            SPAWN_REQUEST_TRACED => control.tuple().map(|[_, id, from, ..]: [_; 7]| Self::Spawn { id, from }),
            _ => Some(Self::Other),
        }
    }

    fn send(to: Term<'a>, mut behind: &'a [u8]) -> Option<Self> {
        Some(Self::Send { to, message: versioned(&mut behind)? })
    }
}

fn versioned<'a>(bytes: &mut &'a [u8]) -> Option<Term<'a>> {
    *bytes = bytes.strip_prefix(&[VERSION])?;
    Term::take(bytes)
}

/// A message with its length. The parts write one term each.
fn frame(
    out: &mut Vec<u8>,
    control: impl FnOnce(&mut Writer<'_>),
    message: Option<&dyn Fn(&mut Writer<'_>)>,
) {
    let start = out.len();
    // The length, which follows; the mark of a message without a distribution header.
    out.extend_from_slice(&[0, 0, 0, 0, 112, VERSION]);
    control(&mut Writer::new(out));
    if let Some(message) = message {
        out.push(VERSION);
        message(&mut Writer::new(out));
    }
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// `{Tag, Reply}` to whoever called, by the alias of its call where it gave one.
pub(super) fn reply(out: &mut Vec<u8>, process: &[u8], to: Term<'_>, tag: Term<'_>, reply: &[u8]) {
    let alias = alias_of(tag);
    let control = |writer: &mut Writer<'_>| {
        match alias {
            Some(alias) => writer.tuple(3).unsigned(ALIAS_SEND.into()).plain(process).term(alias),
            None => writer.tuple(3).unsigned(SEND.into()).atom("").term(to),
        };
    };
    frame(
        out,
        control,
        Some(&|writer| {
            writer.tuple(2).term(tag).plain(reply);
        }),
    );
}

/// The alias in the tag of a call: `[alias | Reference]`, or the same at the head of a list.
fn alias_of(tag: Term<'_>) -> Option<Term<'_>> {
    let (head, tail) = tag.cons()?;
    let (head, tail) = if head.atom().is_some() { (head, tail) } else { head.cons()? };
    if head.atom() == Some("alias") { tail.filter(|tail| tail.is_reference()) } else { None }
}

/// What was to be watched is not there.
pub(super) fn no_process(out: &mut Vec<u8>, of: Term<'_>, watcher: Term<'_>, reference: Term<'_>) {
    let control = |writer: &mut Writer<'_>| {
        writer.tuple(5).unsigned(MONITOR_EXIT.into()).term(of).term(watcher).term(reference).atom("noproc");
    };
    frame(out, control, None);
}

/// What was to be linked with is not there.
pub(super) fn no_link(out: &mut Vec<u8>, of: Term<'_>, linked: Term<'_>) {
    let control = |writer: &mut Writer<'_>| {
        writer.tuple(4).unsigned(EXIT.into()).term(of).term(linked).atom("noproc");
    };
    frame(out, control, None);
}

/// There is no link.
pub(super) fn unlinked(out: &mut Vec<u8>, id: Term<'_>, of: Term<'_>, linked: Term<'_>) {
    let control = |writer: &mut Writer<'_>| {
        writer.tuple(4).unsigned(UNLINK_ACK.into()).term(id).term(of).term(linked);
    };
    frame(out, control, None);
}

/// No processes are started here.
pub(super) fn not_spawned(out: &mut Vec<u8>, id: Term<'_>, to: Term<'_>) {
    let control = |writer: &mut Writer<'_>| {
        writer.tuple(5).unsigned(SPAWN_REPLY.into()).term(id).term(to).unsigned(0).atom("notsup");
    };
    frame(out, control, None);
}
