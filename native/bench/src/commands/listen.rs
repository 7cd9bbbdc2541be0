//! A listener that accepts and does nothing, to measure the generator itself against.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use clap::Args;

use crate::generator::{CONNECTIONS_A_WORKER, shares};
use crate::sys;

/// Options of `listen`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The port on 127.0.0.1; 0 for a free one, which is printed.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Connections to hold at most.
    #[arg(long, default_value_t = 100_000)]
    connections: usize,
}

/// Accepts and holds connections until stdin ends.
///
/// # Errors
/// When the port is taken.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).context("listening")?;
    println!("{}", listener.local_addr()?);
    let listener = Arc::new(listener);
    for share in shares(options.connections, CONNECTIONS_A_WORKER) {
        let listener = Arc::clone(&listener);
        thread::spawn(move || {
            if let Err(error) = hold(&listener, share) {
                eprintln!("megaphone-bench: listening: {error}");
            }
        });
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(true)
}

/// The thread's own descriptor table is a copy, in which the listening socket has the number it had before.
fn hold(listener: &TcpListener, share: usize) -> Result<()> {
    sys::copied_descriptor_table()?;
    let mut held: Vec<TcpStream> = Vec::with_capacity(share);
    while held.len() < share {
        held.push(listener.accept()?.0);
    }
    loop {
        thread::park();
    }
}
