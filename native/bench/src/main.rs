//! Load generator and measurements of Megaphone.

mod arguments;
mod client;
mod commands;
mod compare;
mod generator;
mod measure;
mod server;
mod status;
mod sys;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::status::Status;

/// Puts real XMPP and HTTP clients on a server, and measures what they cost it.
#[derive(Debug, Parser)]
#[command(name = "megaphone-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compares servers that it starts itself.
    Compare(compare::options::Options),
    /// Puts XMPP users on a server: log in, hold or chat, log out.
    Load(commands::load::Options),
    /// Sends plain HTTP requests to a server.
    Http(commands::http::Options),
    /// Holds idle TCP connections to a server.
    Hold(commands::hold::Options),
    /// Listens, accepts and does nothing, for `hold` to connect to.
    Listen(commands::listen::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("megaphone-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<Status> {
    sys::raise_descriptor_limit()?;
    match arguments.command {
        Command::Compare(options) => compare::run::run(&options),
        Command::Load(options) => commands::load::run(&options).map(Status::of),
        Command::Http(options) => commands::http::run(&options).map(Status::of),
        Command::Hold(options) => commands::hold::run(&options).map(Status::of),
        Command::Listen(options) => commands::listen::run(&options).map(Status::of),
    }
}
