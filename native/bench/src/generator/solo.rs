//! One XMPP user on TCP whose stanzas are written by the caller, and timed. It blocks.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::client::News;
use crate::client::session::{Accounts, User};
use crate::client::user::{Client, Output, Transport};
use crate::generator::orders::Members;

/// A user who is online.
pub(crate) struct Solo {
    stream: TcpStream,
    client: Client,
    accounts: Accounts,
    number: u32,
    out: Output,
    unread: Vec<u8>,
    stamp: u64,
}

/// What takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(30);
const INPUT_BYTES: usize = 512 * 1024;

impl Solo {
    /// Logs the first of `members` in.
    ///
    /// # Errors
    /// When the server refuses that or does not answer within 30 s.
    pub(crate) fn log_in(members: &Members) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&members.c2s, PATIENCE).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut out = Output::new(1);
        let client = Client::new(Transport::Tcp, &mut out);
        let accounts = members.accounts.clone();
        let mut solo =
            Self { stream, client, accounts, number: members.first, out, unread: Vec::new(), stamp: 0 };
        solo.out.clear();
        let user = User { accounts: &solo.accounts, number: solo.number };
        solo.client.connected(0, &user, &mut solo.out);
        solo.flush()?;
        solo.wait_for(&[News::Online])?;
        Ok(solo)
    }

    /// Its own full JID.
    pub(crate) fn jid(&self) -> &str {
        self.client.session().jid()
    }

    /// Sends the message to itself that `write` makes of its id, and a ping to the server behind it. Says how long it
    /// took until both had come back.
    ///
    /// # Errors
    /// When the server refuses one of them or does not answer within 30 s.
    pub(crate) fn exchange(&mut self, write: impl FnOnce(&str) -> String) -> Result<Duration> {
        self.stamp += 1;
        let message = write(&format!("m{}", self.stamp));
        let user = User { accounts: &self.accounts, number: self.number };
        self.out.clear();
        let ping = self.client.ping(self.stamp, &user, &mut self.out);
        ping.map_err(|failure| anyhow!("writing a ping: {failure}"))?;
        let since = Instant::now();
        self.stream.write_all(message.as_bytes()).context("sending a stanza")?;
        self.flush()?;
        self.wait_for(&[News::Message(self.stamp), News::Pong(self.stamp)])?;
        Ok(since.elapsed())
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out.bytes[0]).context("sending")?;
        self.out.clear();
        Ok(())
    }

    /// Reads until all of `expected` have come, in whatever order.
    fn wait_for(&mut self, expected: &[News]) -> Result<()> {
        let mut missing: Vec<&News> = expected.iter().collect();
        let mut input = vec![0; INPUT_BYTES];
        while !missing.is_empty() {
            let length = match self.stream.read(&mut input) {
                Ok(0) => bail!("the server closed the connection"),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.context("waiting for an answer")?,
            };
            self.unread.extend_from_slice(&input[..length]);
            for news in self.hear()? {
                if let News::Refused(condition) = news {
                    bail!("refused ({condition})");
                }
                missing.retain(|expected| **expected != news);
            }
        }
        Ok(())
    }

    /// Lets the client have what was read, and sends its answers.
    fn hear(&mut self) -> Result<Vec<News>> {
        let user = User { accounts: &self.accounts, number: self.number };
        let used = self.client.received(0, &self.unread, &user, &mut self.out);
        self.unread.drain(..used.map_err(|failure| anyhow!("{failure}"))?);
        let news = std::mem::take(&mut self.out.news);
        self.flush()?;
        Ok(news)
    }
}
