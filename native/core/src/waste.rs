//! Memory that takes long to give back: the kernel takes 64 MiB in 4 milliseconds, which neither a caller nor a shard's other
//! connections are to wait for.

use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};

/// Bytes that are given back at once: some 20 microseconds' worth.
const AT_ONCE: usize = 256 * 1024;

const NAME: &str = "megaphone_free";

/// Waits for what is to be freed; there is none before there is something. What waits in the channel is memory that was there
/// anyway.
static THREAD: LazyLock<Option<Sender<Box<dyn Send>>>> = LazyLock::new(|| {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name(NAME.into());
    thread.spawn(move || receiver.into_iter().for_each(drop)).ok().map(|_| sender)
});

/// Drops it, on a thread of its own where it holds many bytes.
pub(crate) fn discard<T: Send + 'static>(bytes: usize, waste: T) {
    if bytes > AT_ONCE
        && let Some(thread) = &*THREAD
    {
        // Without the thread it is dropped here.
        let _ = thread.send(Box::new(waste));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Witness(Sender<Option<String>>);

    impl Drop for Witness {
        fn drop(&mut self) {
            self.0.send(std::thread::current().name().map(str::to_owned)).unwrap();
        }
    }

    #[test]
    fn what_is_large_is_freed_on_a_thread_of_its_own() {
        let (sender, freed) = channel();
        discard(AT_ONCE, Witness(sender.clone()));
        let own = std::thread::current().name().map(str::to_owned);
        assert_eq!(freed.recv().unwrap(), own);
        discard(AT_ONCE + 1, Witness(sender));
        assert_eq!(freed.recv().unwrap().as_deref(), Some(NAME));
    }
}
