//! States of sessions as few bytes: LZ4 blocks against dictionaries, which are states that came before.
//!
//! States of one *kind* (in the NIF library: of one transport) differ in names and numbers, so nearly all of one is found
//! in another. Dictionaries are made by [`Dictionaries::pack`] itself, numbered, and never freed, so that what has
//! been packed can be unpacked for as long as the process lives. There are at most [`MAX_DICTIONARIES`], of at most
//! [`MAX_DICTIONARY`] bytes.
//!
//! A packed state is the number of its dictionary plus one (a byte, never 0), the state's length (two bytes, little
//! endian), and an LZ4 block.

use lz4_flex::block::{compress_into_with_dict, decompress_into_with_dict, get_maximum_output_size};
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Bytes of the largest state that is packed: it takes some 50 microseconds where nothing in it repeats.
pub const MAX_STATE: usize = 16 * 1024;
/// Bytes of the largest dictionary.
pub const MAX_DICTIONARY: usize = 8 * 1024;
/// Dictionaries of all kinds.
pub const MAX_DICTIONARIES: usize = KINDS as usize * OF_A_KIND;
/// Kinds are numbered from 0.
pub const KINDS: u8 = 4;

/// Dictionaries of one kind, all of which a state that packs badly is tried with.
const OF_A_KIND: usize = 4;
/// Bytes before the block.
const HEADER: usize = 3;
/// A state packs well when it becomes this many times smaller.
const WELL: usize = 5;
/// A dictionary of this state's own is made when none makes it this many times smaller.
const BADLY: usize = 3;

/// The dictionaries of a process. Any thread may pack and unpack; only making a dictionary takes a lock.
#[derive(Default)]
pub struct Dictionaries {
    made: [[OnceLock<Box<[u8]>>; OF_A_KIND]; KINDS as usize],
    making: Mutex<()>,
}

impl Dictionaries {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            made: [const { [const { OnceLock::new() }; OF_A_KIND] }; KINDS as usize],
            making: Mutex::new(()),
        }
    }

    /// Packs a state. `None` for one that is empty, larger than [`MAX_STATE`], of no kind, or that becomes no smaller than
    /// two thirds.
    ///
    /// The first state of a kind becomes a dictionary, and so does one that packs badly with those that there are.
    pub fn pack(&self, kind: u8, state: &[u8]) -> Option<Vec<u8>> {
        if state.is_empty() || state.len() > MAX_STATE {
            return None;
        }
        let of_kind = self.made.get(usize::from(kind))?;
        let packed = match best(kind, of_kind, state) {
            Some(packed) if packed.len() * BADLY <= state.len() => packed,
            poor => self.learn(kind, of_kind, state).or(poor)?,
        };
        (packed.len() * 3 <= state.len() * 2).then_some(packed)
    }

    /// What [`Dictionaries::pack`] has packed. Takes at most 64 KB of memory, whatever the bytes are.
    pub fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let [number, low, high, block @ ..] = packed else { return Err(UnpackError::Short) };
        let dictionary = self.dictionary(*number).ok_or(UnpackError::NoDictionary)?;
        let mut state = vec![0; usize::from(u16::from_le_bytes([*low, *high]))];
        match decompress_into_with_dict(block, &mut state, dictionary) {
            Ok(length) if length == state.len() => Ok(state),
            Ok(_) | Err(_) => Err(UnpackError::Corrupt),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.made.iter().flatten().filter(|dictionary| dictionary.get().is_some()).count()
    }

    fn dictionary(&self, number: u8) -> Option<&[u8]> {
        let index = usize::from(number.checked_sub(1)?);
        self.made.get(index / OF_A_KIND)?.get(index % OF_A_KIND)?.get().map(|bytes| &**bytes)
    }

    /// Makes a dictionary of this state, unless another thread has just made one that does for it.
    fn learn(&self, kind: u8, of_kind: &[OnceLock<Box<[u8]>>], state: &[u8]) -> Option<Vec<u8>> {
        if of_kind.iter().all(|dictionary| dictionary.get().is_some()) {
            return None;
        }
        // Nothing that is locked can be left half done.
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packed) = best(kind, of_kind, state).filter(|packed| packed.len() * BADLY <= state.len())
        {
            return Some(packed);
        }
        let free = of_kind.iter().find(|dictionary| dictionary.get().is_none())?;
        let _ = free.set(state[..state.len().min(MAX_DICTIONARY)].into());
        best(kind, of_kind, state)
    }
}

/// The smallest that these dictionaries give, or the first that is small enough. An older dictionary comes first.
fn best(kind: u8, of_kind: &[OnceLock<Box<[u8]>>], state: &[u8]) -> Option<Vec<u8>> {
    let mut best: Option<Vec<u8>> = None;
    for (index, dictionary) in of_kind.iter().map_while(OnceLock::get).enumerate() {
        let Some(packed) = compress(number(kind, index), state, dictionary) else { continue };
        if packed.len() * WELL <= state.len() {
            return Some(packed);
        }
        if best.as_ref().is_none_or(|best| packed.len() < best.len()) {
            best = Some(packed);
        }
    }
    best
}

/// As it stands in a packed state.
fn number(kind: u8, index: usize) -> u8 {
    (usize::from(kind) * OF_A_KIND + index + 1) as u8
}

fn compress(number: u8, state: &[u8], dictionary: &[u8]) -> Option<Vec<u8>> {
    let mut packed = vec![0; HEADER + get_maximum_output_size(state.len())];
    let [low, high] = u16::try_from(state.len()).ok()?.to_le_bytes();
    packed[..HEADER].copy_from_slice(&[number, low, high]);
    let length = compress_into_with_dict(state, &mut packed[HEADER..], dictionary).ok()?;
    packed.truncate(HEADER + length);
    Some(packed)
}

/// Why bytes cannot be unpacked. Always our own fault: nothing packed comes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpackError {
    /// Shorter than a packed state can be.
    Short,
    /// There is no such dictionary.
    NoDictionary,
    /// What follows is no block of the length that is told.
    Corrupt,
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "a packed state is too short",
            Self::NoDictionary => "a packed state names a dictionary that is not there",
            Self::Corrupt => "a packed state is corrupt",
        })
    }
}

impl std::error::Error for UnpackError {}
