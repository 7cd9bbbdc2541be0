//! Both ends of an XMPP session: a client's bytes, and an owner that takes events and sends elements.

use crate::common::*;
use megaphone_core::xmpp::{Element, ElementBuilder, Event, element_to_vec, parse_element};
use megaphone_core::{Outgoing, XmppConfig, XmppId, stream};
use std::io::Read;
use std::net::TcpStream;

pub(crate) const HEADER: &[u8] = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>";

pub(crate) fn element(xml: &str) -> Element {
    parse_element(xml.as_bytes(), &Default::default()).expect("an element")
}

/// The header that a server answers with.
pub(crate) fn header() -> Element {
    let mut header = ElementBuilder::default();
    header.start(b"stream:stream");
    header.attr(b"id", b"7");
    header.end();
    header.finish().unwrap()
}

impl Process {
    /// The next message, which is that a session wants its owner.
    #[track_caller]
    pub(crate) fn started_xmpp(&self) -> XmppId {
        match self.next() {
            Message::StartXmpp { id, .. } => id,
            other => panic!("instead of a start: {other:?}"),
        }
    }

    /// The next message, which is an event of a stream, as text.
    #[track_caller]
    pub(crate) fn event(&self) -> String {
        match self.next() {
            Message::Stream(Event::StreamStart(header)) => {
                format!("start {}", String::from_utf8_lossy(header.name()))
            }
            Message::Stream(Event::Element(element)) => String::from_utf8(element_to_vec(&element)).unwrap(),
            Message::Stream(Event::StreamEnd(name)) => format!("end {name}"),
            Message::StreamError(error) => format!("error {error}"),
            Message::Gone => String::from("gone"),
            other => panic!("instead of an event: {other:?}"),
        }
    }
}

impl Node {
    /// Streams that begin from here on have these settings.
    pub(crate) fn set_streams(&self, stream: stream::Config) {
        self.system.set_xmpp_config(XmppConfig { stream, ..XmppConfig::default() });
    }

    #[track_caller]
    pub(crate) fn own(&self, id: XmppId, owner: &Process) {
        self.system.xmpp_started(id, owner.pid, &mut self.sink()).expect("xmpp_started");
    }

    /// Queues something; `Some` when the owner has to wait.
    pub(crate) fn xmpp_send(&self, id: XmppId, owner: &Process, outgoing: Outgoing<'_>) -> Option<Wait> {
        let (waiter, wait) = waiter();
        let sent = self.system.xmpp_send(id, owner.pid, outgoing, &mut self.sink(), || waiter).expect("send");
        (sent == megaphone_core::WriteOutcome::Wait).then_some(wait)
    }

    #[track_caller]
    pub(crate) fn xmpp_flush(&self, id: XmppId, owner: &Process) {
        self.system.xmpp_flush(id, owner.pid, &mut self.sink()).expect("flush");
    }

    #[track_caller]
    pub(crate) fn say(&self, id: XmppId, owner: &Process, xml: &str) {
        assert!(self.xmpp_send(id, owner, Outgoing::Element(&element(xml))).is_none());
        self.xmpp_flush(id, owner);
    }

    #[track_caller]
    pub(crate) fn xmpp_close(&self, id: XmppId, owner: &Process) {
        self.system.xmpp_close(id, owner.pid, &mut self.sink()).expect("close");
        owner.leaves(id);
    }
}

/// A frame as a client sends it.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ ..126 => frame.push(0x80 | len as u8),
        len @ ..65536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

pub(crate) fn text(message: &str) -> Vec<u8> {
    masked(1, message.as_bytes())
}

/// The next frame of a server: its opcode and payload.
#[track_caller]
pub(crate) fn read_frame(mut client: &TcpStream) -> (u8, Vec<u8>) {
    let head = read_exactly(client, 2);
    let len = match head[1] {
        126 => u64::from(u16::from_be_bytes(read_exactly(client, 2).try_into().unwrap())),
        127 => u64::from_be_bytes(read_exactly(client, 8).try_into().unwrap()),
        len => u64::from(len),
    };
    let mut payload = vec![0; usize::try_from(len).unwrap()];
    client.read_exact(&mut payload).expect("a payload");
    (head[0] & 15, payload)
}

#[track_caller]
pub(crate) fn read_text(client: &TcpStream) -> String {
    let (opcode, payload) = read_frame(client);
    assert_eq!(opcode, 1, "instead of text: {payload:?}");
    String::from_utf8(payload).unwrap()
}
