//! What is compared, and how: the options on the command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::client::user::Transport;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// Memory of an idle keep-alive HTTP connection.
    Idle,
    /// Requests a second and latency of keep-alive HTTP.
    Http,
    /// Memory of a user with presence, over TCP, WebSocket and BOSH.
    Memory,
    /// Logins a second.
    Logins,
    /// Latency and processor time of messages.
    Chat,
    /// Pings through BOSH.
    Bosh,
    /// Latency of HTTP while WebSocket peers send pongs without pause.
    Flood,
    /// Processor time of a message to users who sleep, and what they hold meanwhile.
    Wake,
    /// Time for long stanzas of different shapes.
    Shapes,
    /// Users behind a connection manager whose link breaks; needs --ecm.
    Links,
    /// Everything but links.
    All,
}

/// Options of a comparison.
#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 when all is well, 1 when a comparison can't be run, 2 when connections or \
    users failed, and 3 when other programs kept more than a tenth of a core busy too often for the figures \
    to be trusted."
)]
pub(crate) struct Options {
    /// What to compare.
    #[arg(value_enum, default_value = "all")]
    pub(crate) choice: Choice,
    /// Users (or idle connections) of the comparisons that have users; at most what the server's descriptors
    /// allow.
    #[arg(long)]
    pub(crate) users: Option<usize>,
    /// Mutual contacts of each user of the memory comparison, all of them online: an even number. With it, the
    /// comparison is called memory-contacts.
    #[arg(long, default_value_t = 0, value_parser = contacts)]
    pub(crate) contacts: usize,
    /// Messages a second of the chat comparison, instead of what --load comes to.
    #[arg(long, value_parser = crate::arguments::rate)]
    pub(crate) rate: Option<f64>,
    /// Percent of all processors that stock ejabberd and the generator together keep busy in the chat comparison.
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u8).range(10..=95))]
    pub(crate) load: u8,
    /// Fewer users and shorter windows, for a look; chat takes about 5 minutes.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write docs/benchmarks.md, but for figures that can't be trusted.
    #[arg(long)]
    pub(crate) publish: bool,
    /// The servers, of stock, megaphone, unpacked (Megaphone with `pack: off`) and ecm (Megaphone behind an external connection
    /// manager, with one link for each of its workers); naming one twice shows the noise.
    #[arg(long, value_delimiter = ',', default_value = "stock,megaphone")]
    pub(crate) variants: Vec<String>,
    /// The one server ecm, which is not bounded by the descriptors of a process.
    #[arg(long, conflicts_with = "variants")]
    pub(crate) ecm: bool,
    /// The transports of memory, logins and chat, and but for bosh of wake.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tcp,ws,bosh")]
    pub(crate) transports: Vec<Transport>,
    /// Windows of each variant, 5 unless given. Of memory and idle, runs of each: 3 unless given, 1 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: Option<u16>,
    /// Leave ejabberd's listen backlog of 5 instead of 4096.
    #[arg(long)]
    pub(crate) stock_backlog: bool,
    /// Let all Erlang processes collect their garbage before memory is measured. Without it memory is what an
    /// operator sees.
    #[arg(long)]
    pub(crate) collect_garbage: bool,
    /// Where results go.
    #[arg(long, default_value = "bench-results")]
    pub(crate) results: PathBuf,
}

/// Parses a number of contacts. Half of them are on each side of a user in a ring of all users.
fn contacts(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(contacts) if contacts % 2 == 0 && contacts <= MOST_CONTACTS => Ok(contacts),
        Ok(_) => Err(format!("contacts are an even number of at most {MOST_CONTACTS}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Every login is heard of by all contacts: with more the logins would take hours.
const MOST_CONTACTS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_are_divided_evenly() {
        assert_eq!(contacts("18"), Ok(18));
        assert_eq!(contacts("0"), Ok(0));
        for bad in ["17", "-2", "1002", "many"] {
            assert!(contacts(bad).is_err(), "{bad}");
        }
    }
}
