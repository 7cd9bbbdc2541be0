//! What is logged again and again is logged once a minute, with how often it happened.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(60);
/// Subjects that are remembered. They are names of nodes and listeners, so that there are few.
const MOST: usize = 4096;

/// When something was logged last, and how often it happened since, of each kind and subject.
#[derive(Default)]
pub(crate) struct Notes(Mutex<HashMap<(&'static str, Box<str>), Note>>);

struct Note {
    at: Instant,
    since: u64,
}

impl Notes {
    /// Whether to log it now: how often it happened since the last time, this one not counted.
    pub(crate) fn due(&self, kind: &'static str, subject: &str, now: Instant) -> Option<u64> {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(note) = notes.get_mut(&(kind, subject.into())) {
            if now.duration_since(note.at) < EVERY {
                note.since += 1;
                return None;
            }
            note.at = now;
            return Some(std::mem::take(&mut note.since));
        }
        if notes.len() >= MOST {
            notes.retain(|_, note| now.duration_since(note.at) < EVERY);
        }
        if notes.len() < MOST {
            notes.insert((kind, subject.into()), Note { at: now, since: 0 });
        }
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_due_once_a_minute_for_each_subject() {
        let (notes, start) = (Notes::default(), Instant::now());
        assert_eq!(notes.due("cut", "a", start), Some(0));
        assert_eq!(notes.due("cut", "b", start), Some(0));
        assert_eq!(notes.due("cut", "a", start + EVERY / 2), None);
        assert_eq!(notes.due("cut", "a", start + EVERY / 2), None);
        assert_eq!(notes.due("cut", "a", start + EVERY), Some(2));
        assert_eq!(notes.due("lost", "a", start + EVERY), Some(0));
    }
}
