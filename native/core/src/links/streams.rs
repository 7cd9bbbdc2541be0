//! Which connection a link's stream is.

use crate::stream_end::StreamEnd;
use std::sync::Arc;

const PAGE: usize = 1024;

/// A stream as its link has it.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) end: Arc<StreamEnd>,
    /// Of its connection. That may be another's by now: then what it is told is no news to it.
    pub(crate) slot: u32,
}

type Page = Box<[Option<Entry>]>;

/// By number, in pages that go with their streams: numbers are dense.
#[derive(Default)]
pub(crate) struct Streams {
    pages: Vec<Option<(usize, Page)>>,
}

impl Streams {
    /// Bytes of one stream's place.
    pub(crate) const BYTES: usize = size_of::<Option<Entry>>();

    pub(crate) fn get(&self, number: u32) -> Option<&Entry> {
        let (_, page) = self.pages.get(number as usize / PAGE)?.as_ref()?;
        page.get(number as usize % PAGE)?.as_ref()
    }

    pub(crate) fn insert(&mut self, number: u32, entry: Entry) {
        let (page, at) = (number as usize / PAGE, number as usize % PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let (count, page) = self.pages[page].get_or_insert_with(|| (0, (0..PAGE).map(|_| None).collect()));
        *count += usize::from(page[at].replace(entry).is_none());
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<Entry> {
        let slot = self.pages.get_mut(number as usize / PAGE)?;
        let (count, page) = slot.as_mut()?;
        let entry = page.get_mut(number as usize % PAGE)?.take()?;
        *count -= 1;
        if *count == 0 {
            *slot = None;
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::desk::Desk;
    use crate::mailbox::Mailbox;

    #[test]
    fn pages_go_with_their_streams() {
        let poll = mio::Poll::new().unwrap();
        let desk = Desk::new(Arc::new(Mailbox::new(poll.registry()).unwrap()), 8);
        let entry = |slot| Entry { end: StreamEnd::new(Arc::clone(&desk), slot), slot };
        let mut streams = Streams::default();
        for number in [0, 1023, 5000] {
            streams.insert(number, entry(number));
        }
        assert_eq!(streams.get(5000).unwrap().slot, 5000);
        assert!(streams.get(5001).is_none() && streams.get(1_000_000).is_none());
        assert!(streams.remove(5000).is_some() && streams.remove(5000).is_none());
        assert!(streams.pages[4].is_none());
        streams.insert(0, entry(7));
        assert!(streams.remove(0).is_some_and(|entry| entry.slot == 7));
        assert!(streams.pages[0].is_some() && streams.remove(1023).is_some());
        assert!(streams.pages[0].is_none());
    }
}
