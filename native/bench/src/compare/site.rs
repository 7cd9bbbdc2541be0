//! Servers with accounts, and users on them.

use anyhow::{Result, bail};

use crate::client::sasl::Auth;
use crate::client::session::Accounts;
use crate::client::user::Transport;
use crate::compare::figure::Unit;
use crate::compare::lab::Lab;
use crate::compare::outcome::Trial;
use crate::generator::crowd_run::CrowdRun;
use crate::generator::orders::{Arrival, Members};
use crate::server::variant::Variant;
use crate::server::{ACCOUNT_PREFIX, HOST, PASSWORD, Server};

/// The ramp of the comparisons in which logging in is not what is measured, and how many do it at a time.
///
/// A busy stock server turns a few of 10,000 WebSockets away; figures a user need all users to be there.
const ARRIVAL: Arrival = Arrival { ramp: 600.0, at_once: 64, retries: 3 };
/// The ramp of the first users.
const FIRST_ARRIVAL: Arrival = Arrival { ramp: 200.0, at_once: FIRST, retries: 3 };
/// How many these are.
const FIRST: usize = 100;

/// A server with accounts for users, who are all absent yet.
pub(crate) struct Site {
    pub(crate) server: Server,
    /// Those of the users.
    pub(crate) members: Members,
    /// The variant and the transport, for progress bars.
    pub(crate) label: String,
}

/// Users who are online.
pub(crate) struct Online<'a> {
    pub(crate) server: &'a mut Server,
    pub(crate) run: &'a CrowdRun,
    /// As that of [`Site`].
    pub(crate) label: &'a str,
    pub(crate) users: usize,
}

impl Site {
    /// Starts a server with accounts for `users` on `transport`, and lets a few of them log in and out: the
    /// first ones load code and grow tables, which is no cost of a user.
    ///
    /// # Errors
    /// When the server does not start, or these first users can't log in.
    pub(crate) fn start(
        lab: &Lab<'_>,
        variant: &Variant,
        transport: Transport,
        users: usize,
    ) -> Result<Self> {
        Self::start_with_contacts(lab, variant, transport, users, 0)
    }

    /// As [`Site::start`], with so many mutual contacts for each user among them all. Those who have contacts
    /// announce their capabilities.
    ///
    /// # Errors
    /// As [`Site::start`], or when users are too few to have so many contacts.
    pub(crate) fn start_with_contacts(
        lab: &Lab<'_>,
        variant: &Variant,
        transport: Transport,
        users: usize,
        contacts: usize,
    ) -> Result<Self> {
        let mut server = lab.start(variant, users + FIRST)?;
        server.register(users + FIRST)?;
        if contacts > 0 {
            server.befriend(0, users, contacts)?;
            server.befriend(users, FIRST, contacts.min(FIRST - 2))?;
        }
        let members = members(&server, &[transport], users as u32, contacts > 0);
        Self::warm(server, members, format!("{} {}", variant.name, transport.name()), users)
    }

    /// As [`Site::start`], with users on several transports, and a link that can be broken.
    ///
    /// # Errors
    /// As [`Site::start`].
    pub(crate) fn start_breakable(
        lab: &Lab<'_>,
        variant: &Variant,
        transports: &[Transport],
        users: usize,
    ) -> Result<Self> {
        let mut server = lab.start_breakable(variant, users + FIRST)?;
        server.register(users + FIRST)?;
        let members = members(&server, transports, users as u32, false);
        Self::warm(server, members, variant.name.clone(), users)
    }

    /// Lets the first users log in and out.
    fn warm(server: Server, members: Members, label: String, users: usize) -> Result<Self> {
        let first = CrowdRun::start(&members)?;
        let done = first.log_in(FIRST_ARRIVAL, |_| ())?.done;
        first.log_out(500.0, |_| ())?;
        let causes = first.finish()?;
        if done < FIRST as u64 || !causes.is_empty() {
            bail!("{done} of the first {FIRST} users logged in and out: {causes:?}");
        }
        Ok(Self { members: Members { first: 0, count: users, ..members }, server, label })
    }

    /// Starts one for each variant of `lab`. While one of them is under load the others cost next to nothing, as
    /// their schedulers do not wait busily.
    ///
    /// # Errors
    /// As [`Site::start`].
    pub(crate) fn start_all(lab: &Lab<'_>, transport: Transport, users: usize) -> Result<Vec<Self>> {
        lab.variants.iter().map(|variant| Self::start(lab, variant, transport, users)).collect()
    }

    /// The first `count` users.
    pub(crate) fn crowd(&self, count: usize) -> Members {
        Members { count, ..self.members.clone() }
    }
}

/// Lets the first `count` users of each of `sites` log in, where that is not what is measured: no faster than any
/// server can take. Then lets `act` have them. There is a trial for each site: failures go there, also when `act`
/// fails.
///
/// Who is turned away tries again. That is no failure: it is a reading, its name beginning with `prefix`.
///
/// # Errors
/// Those of `act`, or when nobody could log in, or a worker of the generator failed as a whole.
pub(crate) fn with_everybody_online<T>(
    lab: &Lab<'_>,
    sites: &mut [Site],
    count: usize,
    prefix: &str,
    trials: &mut [Trial],
    act: impl FnOnce(&mut [Online<'_>]) -> Result<T>,
) -> Result<T> {
    let runs = sites.iter().map(|site| CrowdRun::start(&site.crowd(count))).collect::<Result<Vec<_>>>()?;
    let places = sites.iter_mut().zip(&runs).zip(trials.iter_mut());
    let online = places.map(|((site, run), trial)| log_in(lab, site, run, prefix, trial));
    let result = online.collect::<Result<Vec<_>>>().and_then(|mut online| act(&mut online));
    for (run, trial) in runs.into_iter().zip(trials) {
        trial.failed(run.finish()?);
    }
    result
}

fn log_in<'a>(
    lab: &Lab<'_>,
    site: &'a mut Site,
    run: &'a CrowdRun,
    prefix: &str,
    trial: &mut Trial,
) -> Result<Online<'a>> {
    let bar = lab.bar(format!("{}: log in", site.label), run.users() as u64);
    let report = run.log_in(ARRIVAL, |count| bar.set_position(count))?;
    bar.finish_and_clear();
    trial.add(format!("{prefix}logins tried again"), Unit::Whole, report.retried as f64);
    match report.done as usize {
        0 => bail!("{}: nobody could log in", site.label),
        users => Ok(Online { server: &mut site.server, run, label: &site.label, users }),
    }
}

/// The first users, who begin at `first`.
fn members(server: &Server, transports: &[Transport], first: u32, caps: bool) -> Members {
    Members {
        first,
        count: FIRST,
        transports: transports.to_vec(),
        accounts: Accounts {
            domain: HOST.to_owned(),
            auth: Auth::Plain,
            prefix: ACCOUNT_PREFIX.to_owned(),
            password: PASSWORD.to_owned(),
            caps,
        },
        c2s: server.c2s,
        http: server.http,
    }
}
