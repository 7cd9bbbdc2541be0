//! Logs: lines of text with fields, on stderr. A thread of its own writes them, so that no other waits for whoever reads
//! them; lines that it can't keep up with are dropped and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Lines that may wait to be written.
const MOST: usize = 1024;
/// How long the end of the program waits for them.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is logged: a level, or levels of targets such as `warn,megaphone_ecm=debug`. Nothing at all stands for `info`.
pub fn parse_filter(text: &str) -> Result<Targets, String> {
    if text.is_empty() {
        return Ok(Targets::new().with_default(LevelFilter::INFO));
    }
    if let Some(word) =
        text.split(',').find(|part| !part.contains('=') && part.parse::<LevelFilter>().is_err())
    {
        return Err(format!(
            "\"{word}\" is not a level: use off, error, warn, info, debug or trace, or TARGET=LEVEL"
        ));
    }
    text.parse().map_err(|error| format!("{error}: use TARGET=LEVEL"))
}

/// Sends what passes the filter to stderr. To be called once; another call changes nothing.
pub fn start(filter: Targets) -> io::Result<Log> {
    let log = Log::to(io::stderr(), MOST)?;
    let sink = log.clone();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || sink.clone());
    // There is a subscriber already: its filter stays.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Ok(log)
}

/// Where lines go.
#[derive(Clone)]
pub struct Log {
    lines: SyncSender<Vec<u8>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    waiting: Mutex<usize>,
    written: Condvar,
    dropped: AtomicU64,
}

impl Log {
    fn to(output: impl Write + Send + 'static, most: usize) -> io::Result<Self> {
        let (lines, receiver) = sync_channel(most);
        let state = Arc::<State>::default();
        let log = Self { lines, state: Arc::clone(&state) };
        std::thread::Builder::new().name("ecm-log".into()).spawn(move || write(output, &receiver, &state))?;
        Ok(log)
    }

    /// Waits until what was logged is written, a second at most.
    pub fn finish(&self) {
        let waiting = self.state.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever reads stderr may have stopped.
        let _ = self.state.written.wait_timeout_while(waiting, PATIENCE, |waiting| *waiting > 0);
    }
}

impl State {
    fn count(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.written.notify_all();
    }
}

/// Takes whole lines.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.state.count(|waiting| *waiting += 1);
        if self.lines.try_send(line.to_vec()).is_err() {
            self.state.count(|waiting| *waiting -= 1);
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where nobody reads, nobody can be told so.
fn write(mut output: impl Write, lines: &Receiver<Vec<u8>>, state: &State) {
    while let Ok(line) = lines.recv() {
        let _ = output.write_all(&line);
        let dropped = state.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = writeln!(output, "megaphone-ecm: {dropped} lines of the log were dropped here");
        }
        state.count(|waiting| *waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    #[test]
    fn a_filter_is_a_level_or_levels_of_targets() {
        assert_eq!(parse_filter("").unwrap(), parse_filter("info").unwrap());
        assert!(parse_filter("warn,megaphone_ecm=debug").is_ok());
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        let error = "\"loud\" is not a level: use off, error, warn, info, debug or trace, or TARGET=LEVEL";
        assert_eq!(parse_filter("loud").unwrap_err(), error);
        assert!(parse_filter("megaphone_ecm=loud").is_err());
    }

    /// Says what it is given, and goes on when it is told to.
    struct Slow(Sender<String>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
            self.1.recv().unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_takes_are_dropped_and_counted() {
        let (sender, shown) = channel();
        let (go, gate) = channel();
        let mut log = Log::to(Slow(sender, gate), 2).unwrap();
        log.write_all(b"1\n").unwrap();
        assert_eq!(shown.recv().unwrap(), "1\n");
        for line in ["2\n", "3\n", "4\n", "5\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        go.send(()).unwrap();
        // The rest, and what else is written.
        (0..16).for_each(|_| go.send(()).unwrap());
        log.finish();
        let rest: String = shown.try_iter().collect();
        assert_eq!(rest, "megaphone-ecm: 2 lines of the log were dropped here\n2\n3\n");
    }
}
