//! The configuration: a TOML file, read into what the parts of the program need. `docs/ecm.md` is its reference.
//!
//! Reading goes on after a problem, so that one run names all of them.

mod capacity;
mod files;
mod link;
mod listeners;
mod nodes;
mod report;
mod section;
mod value;

pub use capacity::{Environment, MAX_WORKERS};
pub use listeners::Listener;
pub use nodes::{Host, Node};
pub use report::{Position, Problem, Problems};

use files::read_private;
use megaphone_proto::link as protocol;
use report::Report;
use section::Section;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use value::Read;

/// The most connections that a file may ask for.
pub const MAX_CONNECTIONS: u32 = 1 << 24;

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

/// A hidden Erlang node.
#[derive(Clone, Debug)]
pub struct ErlangNode {
    /// Its name.
    pub name: Box<str>,
    /// The cookie that it shares with others.
    pub cookie: Cookie,
}

/// What Erlang nodes that may connect have in common. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(Box<str>);

impl Cookie {
    /// Its text, at most 255 characters.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie")
    }
}

/// Reads and checks a file, with those that it names. Paths in it begin at its directory.
pub fn load(file: &Path, environment: &Environment) -> Result<Settings, Problems> {
    let bytes =
        std::fs::read(file).map_err(|error| Problems::of_file(file, format!("can't be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Problems::of_file(file, format!("is not UTF-8, from byte {} on", error.utf8_error().valid_up_to()))
    })?;
    let report = Report::new(&text);
    let base = file.parent().unwrap_or(Path::new(""));
    match parse(&text, &report).and_then(|table| read(&table, &report, base, environment)) {
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
    let given_max = root.given("max_connections", value::integer(1..=MAX_CONNECTIONS.into()));
    let max_connections = given_max.as_ref().map_or(100_000, |given| *given.get_ref());
    let balance = root.or("balance", Balance::Address, balance);
    let given_workers = root.given("workers", value::integer(1..=MAX_WORKERS.into()));
    let mut taken = Vec::new();
    let listeners = listeners::read(&mut root, max_connections, &mut taken);
    let nodes = nodes::read(&mut root);
    let drain = drain(root.table("drain", "[drain]"), max_connections);
    let erlang_node =
        root.table("erlang_node", "[erlang_node]").and_then(|section| erlang_node(section, base));
    let http = root.table("http", "[http]").and_then(|section| http(section, &mut taken));
    let at_max = given_max.map_or(root.span(), |given| given.span());
    let at_workers = given_workers.as_ref().map_or(at_max.clone(), Spanned::span);
    let workers = environment.workers(given_workers.as_ref(), max_connections, listeners.len());
    let workers = workers.map_err(|message| report.add(at_workers, message));
    root.finish();
    let link = link?;
    if let Some(message) = too_few_streams(&nodes, &link, max_connections) {
        report.add(at_max, message);
    }
    Some(Settings {
        link,
        listeners,
        nodes,
        balance,
        workers: workers.ok()?,
        max_connections,
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

/// Each connection is a stream, and a link has a bound on them.
fn too_few_streams(nodes: &[Node], link: &protocol::Config, max_connections: u32) -> Option<String> {
    let links: u64 = nodes.iter().map(|node| u64::from(node.links)).sum();
    let streams = links * u64::from(link.max_streams);
    (links > 0 && streams < max_connections.into()).then(|| {
        format!(
            "max_connections: all links together ({links}) have {streams} streams, not {max_connections}: raise links or \
             max_streams, or lower max_connections"
        )
    })
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

fn erlang_node(mut section: Section<'_>, base: &Path) -> Option<ErlangNode> {
    let name = section.required("name", "\"ecm@host.example.org\"", value::node_name);
    let file = section.required("cookie_file", "\"/etc/megaphone/cookie\"", value::text);
    let cookie = file.and_then(|file| {
        let cookie = cookie(&base.join(&**file.get_ref()));
        cookie.map_err(|message| section.report.add(file.span(), format!("cookie_file: {message}"))).ok()
    });
    section.finish();
    Some(ErlangNode { name: name?.into_inner(), cookie: cookie? })
}

/// An atom's text. Spaces and line ends behind it are not part of it, as for Erlang.
fn cookie(path: &Path) -> Result<Cookie, String> {
    let text = String::from_utf8(read_private(path)?).unwrap_or_default();
    let text = text.trim_end_matches([' ', '\r', '\n']);
    let is_cookie = (1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let shown = path.display();
    is_cookie.then(|| Cookie(text.into())).ok_or_else(|| {
        format!("{shown} has to hold 1 to 255 characters on one line, as the nodes' .erlang.cookie")
    })
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
