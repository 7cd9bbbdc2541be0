//! The configuration: a TOML file, read into what the parts of the program need. `docs/ecm.md` is its reference.
//!
//! Reading goes on after a problem, so that one run names all of them.

mod capacity;
mod erlang_node;
mod files;
mod link;
mod listeners;
mod nodes;
mod report;
mod section;
mod value;

pub use capacity::{Environment, MAX_CONNECTIONS, MAX_WORKERS};
pub use erlang_node::{Cookie, ErlangNode};
pub use listeners::Listener;
pub use nodes::{Host, Node};
pub use report::{Position, Problem, Problems};

use capacity::Capacity;
use megaphone_proto::link as protocol;
use report::Report;
use section::Section;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use value::Read;

/// All of a configuration, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name, secret and bounds of the links, to whichever node.
    pub link: protocol::Config,
    /// At least one, each with an address of its own.
    pub listeners: Vec<Listener>,
    /// At least one, each with a name and an address of its own.
    pub nodes: Vec<Node>,
    /// Which node a client goes to. Default [`Balance::Address`].
    pub balance: Balance,
    /// 1 to [`MAX_WORKERS`]; their descriptors suffice for `max_connections`. Default: as few as do.
    pub workers: u16,
    /// Clients' connections at a time, of all listeners and workers. Default 100,000.
    pub max_connections: u32,
    /// How it stops.
    pub drain: Drain,
    /// The hidden Erlang node that it is as well. Default none.
    pub erlang_node: Option<ErlangNode>,
    /// Where health and metrics are served: a loopback address. Default nowhere.
    pub http: Option<SocketAddr>,
}

/// How a node is chosen for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// By a consistent hash of its address: the BOSH connections of one client meet on one node.
    Address,
    /// The node with the fewest connections for its weight.
    Least,
}

/// How the clients that are there are taken leave of when the program is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When the last of them is closed, counted from the order to stop. Default 5 min.
    pub deadline: Duration,
    /// How many are closed a second. Default: as many as makes the last one end at the deadline. Those that are left at the
    /// deadline are closed at once.
    pub pace: u32,
}

/// Reads and checks a file, with those that it names. Paths in it begin at its directory.
pub fn load(file: &Path, environment: &Environment) -> Result<Settings, Problems> {
    let bytes =
        std::fs::read(file).map_err(|error| Problems::of_file(file, format!("can't be read: {error}")))?;
    let text = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let report = Report::new(text);
    if text.len() < bytes.len() {
        report.add(text.len()..bytes.len(), "not UTF-8: save the file in it");
        return Err(report.into_problems(file));
    }
    let base = file.parent().unwrap_or(Path::new(""));
    match parse(text, &report).and_then(|table| read(&table, &report, base, environment)) {
        Some(settings) if report.is_empty() => Ok(settings),
        _ => Err(report.into_problems(file)),
    }
}

/// None when it is not TOML: what could still be read would be reported as missing.
fn parse<'a>(text: &'a str, report: &Report<'_>) -> Option<DeTable<'a>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        report.add(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()));
    }
    errors.is_empty().then(|| table.into_inner())
}

/// None only after a problem.
fn read(
    table: &DeTable<'_>,
    report: &Report<'_>,
    base: &Path,
    environment: &Environment,
) -> Option<Settings> {
    let mut root = Section::root(table, report);
    let link = link::read(&mut root, base);
    let capacity = Capacity::read(&mut root);
    let balance = root.or("balance", Balance::Address, balance);
    let mut taken = Vec::new();
    let listeners = listeners::read(&mut root, capacity.max_connections, &mut taken);
    let nodes = nodes::read(&mut root);
    let drain = drain(root.table("drain", "[drain]"), capacity.max_connections);
    let erlang_node = root.table("erlang_node", "[erlang_node]");
    let erlang_node = erlang_node.and_then(|section| erlang_node::read(section, base));
    let http = root.table("http", "[http]").and_then(|section| http(section, &mut taken));
    let workers = capacity.workers(report, environment, listeners.len(), &nodes);
    let link = link.inspect(|link| capacity.check_streams(report, &nodes, workers, link.max_streams));
    root.finish();
    Some(Settings {
        link: link?,
        listeners,
        nodes,
        balance,
        workers: workers?,
        max_connections: capacity.max_connections,
        drain,
        erlang_node,
        http,
    })
}

fn balance(value: &DeValue<'_>) -> Read<Balance> {
    match &*value::text(value)? {
        "address" => Ok(Balance::Address),
        "least" => Ok(Balance::Least),
        other => Err(format!("{other:?} is unknown: use \"address\" or \"least\"")),
    }
}

fn drain(section: Option<Section<'_>>, max_connections: u32) -> Drain {
    let (mut deadline, mut pace) = (Duration::from_secs(300), None);
    if let Some(mut section) = section {
        deadline = section.or("deadline", deadline, value::duration(1000..=86_400_000));
        pace = section.given("pace", value::integer(1..=1_000_000));
        section.finish();
    }
    let even = max_connections.div_ceil(u32::try_from(deadline.as_secs()).unwrap_or(u32::MAX).max(1));
    Drain { deadline, pace: pace.map_or(even, Spanned::into_inner) }
}

fn http(mut section: Section<'_>, taken: &mut Vec<(SocketAddr, usize)>) -> Option<SocketAddr> {
    let listen = section.required("listen", "\"127.0.0.1:6281\"", value::socket_address);
    if let Some(listen) = &listen {
        check_loopback(&section, listen);
        listeners::check_free(&section, listen, taken);
    }
    section.finish();
    listen.map(Spanned::into_inner)
}

/// It has no authentication.
fn check_loopback(section: &Section<'_>, listen: &Spanned<SocketAddr>) {
    let address = listen.get_ref();
    if !address.ip().is_loopback() {
        let hint = format!("use \"127.0.0.1:{0}\" or \"[::1]:{0}\"", address.port());
        let message = format!("listen: {address} can be reached from other machines, by whomever: {hint}");
        section.report.add(listen.span(), message);
    }
}

impl Settings {
    /// What it asks for, in a line.
    pub fn summary(&self) -> String {
        let links: u32 = self.nodes.iter().map(|node| u32::from(node.links)).sum();
        format!(
            "fine: {}, {}, {}, {}, up to {} connections",
            count(self.listeners.len(), "listener"),
            count(self.nodes.len(), "node"),
            count(links as usize, "link"),
            count(self.workers.into(), "worker"),
            self.max_connections
        )
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
