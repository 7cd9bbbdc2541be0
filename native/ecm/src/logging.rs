//! Logs: lines of text with fields, on stderr.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

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
pub fn start(filter: Targets) {
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    // There is a subscriber already: its filter stays.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
