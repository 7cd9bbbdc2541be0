//! The program `megaphone-ecm`.

use clap::Parser;
use megaphone_ecm::notify::Notifier;
use megaphone_ecm::service::{Notice, Service};
use megaphone_ecm::settings::{self, Environment, MAX_WORKERS, Settings};
use megaphone_ecm::{erlang_node, http, logging};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tracing_subscriber::filter::Targets;

/// Holds clients' connections outside ejabberd nodes, and carries them to the nodes over links.
///
/// Exits with 0 when the file is right, or when it was told to stop; with 1 when the file is wrong, and with 2 when it can't do what was asked.
#[derive(Debug, Parser)]
#[command(name = "megaphone-ecm", version)]
struct Arguments {
    /// The configuration.
    file: PathBuf,
    /// Only check the file, with the files that it names, and the limits of this process.
    #[arg(long)]
    check: bool,
    /// What to log: off, error, warn, info, debug, trace, or levels of targets (warn,megaphone_ecm=debug).
    #[arg(long, value_name = "FILTER", env = "MEGAPHONE_LOG", default_value = "info", value_parser = logging::parse_filter)]
    log: Targets,
    /// How many workers, in place of what the file says.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_WORKERS)))]
    workers: Option<u16>,
}

/// Nothing is wrong with the file, and it can't be done.
const UNABLE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Ok(log) = logging::start(arguments.log.clone()) else { return UNABLE.into() };
    let code = run(&arguments);
    log.finish();
    code
}

fn run(arguments: &Arguments) -> ExitCode {
    let environment = Environment { workers: arguments.workers, ..Environment::of_process() };
    match settings::load(&arguments.file, &environment) {
        Ok(settings) if arguments.check => {
            let written = writeln!(io::stdout(), "{}: {}", arguments.file.display(), settings.summary());
            if written.is_ok() { ExitCode::SUCCESS } else { UNABLE.into() }
        }
        Ok(settings) => match serve(&arguments.file, settings, &environment) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                UNABLE.into()
            }
        },
        Err(problems) => {
            // The exit code says it where stderr can't.
            let _ = write!(io::stderr(), "{problems}");
            ExitCode::FAILURE
        }
    }
}

fn serve(file: &Path, settings: Settings, environment: &Environment) -> Result<(), String> {
    tracing::info!(
        name = settings.link.name,
        listeners = settings.listeners.len(),
        nodes = settings.nodes.len(),
        workers = settings.workers,
        max_connections = settings.max_connections,
        "configuration read"
    );
    let (http, node) = (settings.http, settings.erlang_node.clone());
    // The workers come first: they would have copies of whatever sockets are there.
    let service = Service::start(file, settings, environment)?;
    let control = service.control();
    let http = http
        .map(|listen| http::start(listen, Arc::clone(&control)))
        .transpose()
        .map_err(|error| error.to_string())?;
    let node =
        node.map(|node| erlang_node::start(&node, control)).transpose().map_err(|error| error.to_string())?;
    let notifier = Notifier::of_process();
    let ended = service.wait(notifier.watchdog_interval(), &mut |notice| tell(&notifier, notice));
    http.into_iter().for_each(http::Handle::stop);
    node.into_iter().for_each(erlang_node::Handle::stop);
    ended
}

fn tell(notifier: &Notifier, notice: Notice) {
    match notice {
        Notice::Ready => notifier.ready(),
        Notice::Reloading => notifier.reloading(),
        Notice::Alive => notifier.alive(),
        Notice::Stopping => notifier.stopping(),
    }
}
