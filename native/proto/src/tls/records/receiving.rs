//! Records that arrive.

use super::{Event, Records, Update};
use crate::tls::alert::{Alert, FATAL, WARNING};
use crate::tls::error::{Error, PeerError, Truncated};
use crate::tls::header::{self, ContentType};
use crate::tls::message::Message;
use crate::tls::open;
use std::mem;
use std::ops::Range;

/// Records in a row that may come without data: as many as BoringSSL and OpenSSL allow. Empty ones, KeyUpdates, warnings, tickets.
const MAX_WITHOUT_DATA: u8 = 32;

/// What taking a record came to.
enum Step<'i> {
    /// There is none.
    Starved,
    /// One without data.
    Nothing,
    /// The peer's last.
    Closed,
    /// Data within the owner's bytes.
    InInput(&'i mut [u8]),
    /// Data within the record that was kept.
    InRecord(Range<usize>),
}

/// What was in a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Nothing,
    /// What the peer was asked for.
    Answer,
    Data,
    Close,
}

impl Records {
    /// Takes bytes off the front of `input`, up to the next event; all of them when there is none. What is whole is opened in place; a
    /// record that is half there is kept. After the last event it takes and ignores all (RFC 8446 section 6.1).
    pub fn handle_input<'e, 'i: 'e>(&'e mut self, input: &mut &'i mut [u8]) -> Option<Event<'e>> {
        let step = loop {
            self.release_record();
            if !self.is_receiving {
                *input = &mut [];
                return None;
            }
            match self.take_record(input) {
                Ok(Step::Nothing) => {}
                Ok(step) => break step,
                Err(error) => return Some(self.fail(error)),
            }
        };
        match step {
            Step::Starved | Step::Nothing => None,
            Step::Closed => Some(Event::Closed),
            Step::InInput(data) => Some(Event::Data(data)),
            Step::InRecord(range) => Some(Event::Data(&mut self.work().record[range])),
        }
    }

    /// The carrier's input has ended: an error when the peer has not said that it would. After [`Event::Failed`] there is nothing to
    /// add, and no error.
    pub fn handle_eof(&mut self) -> Result<(), Truncated> {
        if !mem::take(&mut self.is_receiving) {
            return Ok(());
        }
        self.end_receiving();
        Err(Truncated)
    }

    fn take_record<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Step<'i>, Error> {
        if self.is_between_records()
            && let Some(len) = header::record_len(input, self.suite)?
            && len <= input.len()
        {
            let (record, rest) = mem::take(input).split_at_mut(len);
            *input = rest;
            let (content, range) = self.open(record)?;
            return Ok(step(content, || Step::InInput(&mut record[range])));
        }
        if !self.keep(input)? {
            return Ok(Step::Starved);
        }
        let mut record = mem::take(&mut self.work().record);
        let (content, range) = self.open(&mut record)?;
        let work = self.work();
        (work.record, work.is_opened) = (record, true);
        Ok(step(content, || Step::InRecord(range)))
    }

    /// Keeps what there is of a record; whether it is whole. Memory follows what arrives, not what a header promises.
    fn keep(&mut self, input: &mut &mut [u8]) -> Result<bool, Error> {
        let suite = self.suite;
        while !input.is_empty() {
            let record = &mut self.work().record;
            let missing = header::record_len(record, suite)?.unwrap_or(header::HEADER) - record.len();
            let count = missing.min(input.len());
            let (part, rest) = mem::take(input).split_at_mut(count);
            *input = rest;
            if part.len() > record.capacity() - record.len() {
                record.reserve_exact(part.len().max(record.len()).min(missing));
            }
            record.extend_from_slice(part);
            if header::record_len(record, suite)? == Some(record.len()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens a whole record, and does what it says unless that is data.
    fn open(&mut self, record: &mut [u8]) -> Result<(Content, Range<usize>), Error> {
        let work = self.work.get_or_insert_default();
        let opened = open::open(self.suite, &mut self.rx, &mut work.opener, record)?;
        let content = self.receive(opened.kind, &record[opened.payload.clone()])?;
        match content {
            Content::Data => self.without_data = 0,
            Content::Nothing => self.count_without_data()?,
            Content::Answer => {}
            Content::Close => self.end_receiving(),
        }
        Ok((content, opened.payload))
    }

    fn receive(&mut self, kind: ContentType, payload: &[u8]) -> Result<Content, Error> {
        match kind {
            ContentType::Handshake => self.receive_messages(payload),
            // Nothing comes between the parts of a message (RFC 8446 section 5.1).
            _ if self.messages.is_partial() => Err(PeerError::Unexpected.into()),
            ContentType::ApplicationData if payload.is_empty() => Ok(Content::Nothing),
            ContentType::ApplicationData => Ok(Content::Data),
            ContentType::Alert => self.receive_alert(payload),
            ContentType::ChangeCipherSpec => Err(PeerError::Unexpected.into()),
        }
    }

    /// One alert a record: RFC 8446 section 5.1 asks for it, and no TLS 1.2 does otherwise.
    fn receive_alert(&self, payload: &[u8]) -> Result<Content, Error> {
        let &[level, description] = payload else { return Err(PeerError::Malformed.into()) };
        let (alert, is_tls13) = (Alert(description), self.suite.is_tls13());
        if alert == Alert::CLOSE_NOTIFY {
            return Ok(Content::Close);
        }
        // TLS 1.3 has no warnings but these two, whatever their level says (section 6).
        let is_warning = if is_tls13 { alert == Alert::USER_CANCELED } else { level == WARNING };
        match level {
            _ if is_warning => Ok(Content::Nothing),
            FATAL => Err(Error::Alert(alert)),
            _ if is_tls13 => Err(Error::Alert(alert)),
            _ => Err(PeerError::IllegalValue.into()),
        }
    }

    fn receive_messages(&mut self, mut payload: &[u8]) -> Result<Content, Error> {
        // RFC 8446 section 5.1 allows no empty part of a message.
        if payload.is_empty() {
            return Err(PeerError::Unexpected.into());
        }
        let mut content = Content::Nothing;
        while !payload.is_empty() {
            if let Some(message) = self.messages.take(&mut payload, self.suite.version, self.side)? {
                content = self.obey(message, payload.is_empty())?;
            }
        }
        Ok(content)
    }

    fn obey(&mut self, message: Message, is_last: bool) -> Result<Content, PeerError> {
        match message {
            // What follows has other keys, and so is in another record (RFC 8446 section 5.1).
            Message::KeyUpdate { .. } if !is_last => return Err(PeerError::Unexpected),
            Message::KeyUpdate { answer } => return Ok(self.update_receiving(answer)),
            Message::Renegotiation if self.has_refused_renegotiation => return Err(PeerError::Renegotiation),
            Message::Renegotiation => (self.has_refused_renegotiation, self.due.refusal) = (true, true),
            Message::Ticket => {}
        }
        Ok(Content::Nothing)
    }

    fn update_receiving(&mut self, answer: bool) -> Content {
        self.rx.update(self.suite);
        self.work().opener = None;
        // One update of ours answers all requests that came before it was sent (RFC 8446 section 4.6.3).
        if answer && self.may_send() {
            self.due.key_update.get_or_insert(Update::Own);
        }
        if answer || self.requested == 0 {
            return Content::Nothing;
        }
        self.requested -= 1;
        Content::Answer
    }

    fn count_without_data(&mut self) -> Result<(), PeerError> {
        self.without_data += 1;
        if self.without_data > MAX_WITHOUT_DATA { Err(PeerError::TooManyWithoutData) } else { Ok(()) }
    }

    fn fail(&mut self, error: Error) -> Event<'static> {
        self.end_receiving();
        match error.alert() {
            Some(alert) if self.is_sending => self.due.alert = Some(alert),
            Some(_) => {}
            None => self.end_sending(),
        }
        Event::Failed(error)
    }

    fn end_receiving(&mut self) {
        self.is_receiving = false;
        self.rx.clear();
        if let Some(work) = &mut self.work {
            work.opener = None;
            (work.record, work.is_opened) = (Vec::new(), false);
        }
    }
}

fn step<'i>(content: Content, data: impl FnOnce() -> Step<'i>) -> Step<'i> {
    match content {
        Content::Data => data(),
        Content::Close => Step::Closed,
        Content::Nothing | Content::Answer => Step::Nothing,
    }
}
