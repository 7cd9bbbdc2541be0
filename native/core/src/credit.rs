//! How much an owner may have been sent that it has not taken.

/// Events that an owner may have in its mailbox before it takes one.
const MAX_UNTAKEN: u32 = 32;
/// The same in bytes as they were received; one event may go over it.
const MAX_UNTAKEN_BYTES: u32 = 64 * 1024;

/// What an owner has in its mailbox.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    untaken: u32,
    untaken_bytes: u32,
}

impl Credit {
    /// Whether the owner can have another event.
    pub(crate) fn has_room(&self) -> bool {
        self.untaken < MAX_UNTAKEN && self.untaken_bytes < MAX_UNTAKEN_BYTES
    }

    /// Whether the owner has taken everything.
    pub(crate) fn is_settled(&self) -> bool {
        self.untaken == 0
    }

    /// The owner was sent an event that came in so many bytes.
    pub(crate) fn delivered(&mut self, bytes: usize) {
        self.untaken += 1;
        self.untaken_bytes = self.untaken_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The owner has taken so many of them. How long each was is not kept: they count as if all were of one length.
    pub(crate) fn taken(&mut self, events: u32) {
        let left = self.untaken.saturating_sub(events);
        let bytes = u64::from(self.untaken_bytes) * u64::from(left) / u64::from(self.untaken.max(1));
        // No more than before.
        self.untaken_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.untaken = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_makes_room_while_more_is_under_way() {
        let mut credit = Credit::default();
        for _ in 0..10 {
            credit.delivered(8000);
        }
        assert!(!credit.has_room());
        credit.taken(5);
        assert!(credit.has_room() && !credit.is_settled());
        credit.taken(7);
        assert!(credit.has_room() && credit.is_settled());
        credit.delivered(usize::MAX);
        assert!(!credit.has_room());
        credit.taken(1);
        assert!(credit.has_room());
    }
}
