//! Runs XMPP users on as many workers as their connections need, one phase after the other.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::generator::crowd::Crowd;
use crate::generator::io::Io;
use crate::generator::orders::{Arrival, Kind, Members, Order, PATIENCE, PhaseReport, Rate, lanes_each};
use crate::generator::shared::Shared;
use crate::generator::{CONNECTIONS_A_WORKER, shares};
use crate::sys;

/// XMPP users, somewhere between absent and online.
pub(crate) struct CrowdRun {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    reports: Receiver<PhaseReport>,
}

struct Worker {
    users: usize,
    orders: Sender<Order>,
    thread: JoinHandle<Result<()>>,
}

/// How much longer than a phase's own limit its reports are waited for.
const SLACK: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(100);

impl CrowdRun {
    /// Starts the workers for `members`, who are all absent.
    ///
    /// # Errors
    /// When threads can't be started.
    pub(crate) fn start(members: &Members) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (report, reports) = channel();
        let epoch = Instant::now();
        let most = CONNECTIONS_A_WORKER / lanes_each(&members.transports);
        let mut workers = Vec::new();
        let mut first = members.first;
        for (number, count) in shares(members.count, most).into_iter().enumerate() {
            let members = Members { first, count, ..members.clone() };
            first += count as u32;
            let (orders, receiver) = channel();
            let (shared, report) = (Arc::clone(&shared), report.clone());
            let seed = RandomState::new().hash_one(number);
            let thread = thread::Builder::new().name(format!("users-{number}")).spawn(move || {
                sys::own_descriptor_table().context("a descriptor table for a worker")?;
                let mut io = Io::new(count * lanes_each(&members.transports), number)?;
                io.run(&mut Crowd::new(members, &shared, receiver, report, epoch, seed))?;
                Ok(())
            })?;
            workers.push(Worker { users: count, orders, thread });
        }
        Ok(Self { shared, workers, reports })
    }

    /// Lets all absent users log in; `tick` hears how many are online.
    ///
    /// # Errors
    /// When a worker is gone; users that fail are counted, and no error.
    pub(crate) fn log_in(&self, arrival: Arrival, tick: impl FnMut(u64)) -> Result<PhaseReport> {
        let limit = self.limit(arrival.ramp);
        let order = |part: f64| {
            let at_once = ((arrival.at_once as f64 * part) as usize).max(1);
            Order::LogIn { arrival: Arrival { ramp: arrival.ramp * part, at_once, ..arrival }, limit }
        };
        self.phase(order, limit, tick)
    }

    /// Lets the users who are online send for `long`; `tick` hears how much was answered.
    ///
    /// # Errors
    /// As [`CrowdRun::log_in`].
    pub(crate) fn traffic(
        &self,
        kind: Kind,
        rate: Rate,
        long: Duration,
        body: &str,
        tick: impl FnMut(u64),
    ) -> Result<PhaseReport> {
        let order = |part: f64| {
            let rate = match rate {
                Rate::Fixed(rate) => Rate::Fixed(rate * part),
                Rate::Closed => Rate::Closed,
            };
            let kind = match kind {
                Kind::Wake { among } => Kind::Wake { among: ((among as f64 * part).ceil() as usize).max(1) },
                Kind::Chat | Kind::Ping => kind,
            };
            Order::Traffic { kind, rate, long, body: body.to_owned() }
        };
        self.phase(order, long + PATIENCE, tick)
    }

    /// Lets the users who are online log out, `ramp` a second; `tick` hears how many have.
    ///
    /// # Errors
    /// As [`CrowdRun::log_in`].
    pub(crate) fn log_out(&self, ramp: f64, tick: impl FnMut(u64)) -> Result<PhaseReport> {
        let limit = self.limit(ramp);
        self.phase(|part| Order::LogOut { ramp: ramp * part, limit }, limit, tick)
    }

    /// Drops all connections and says what failed, by cause.
    ///
    /// # Errors
    /// When a worker failed as a whole.
    pub(crate) fn finish(self) -> Result<BTreeMap<String, u64>> {
        for worker in self.workers {
            drop(worker.orders);
            worker.thread.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        Ok(self.shared.causes())
    }

    /// How many users there are, in whatever state.
    pub(crate) fn users(&self) -> usize {
        self.workers.iter().map(|worker| worker.users).sum()
    }

    /// How long a ramp may take: a server that answers nothing is given up after this.
    fn limit(&self, ramp: f64) -> Duration {
        let slowest = ramp.min(100.0);
        Duration::from_secs_f64(self.users() as f64 / slowest) + 2 * PATIENCE
    }

    fn phase(
        &self,
        order: impl Fn(f64) -> Order,
        limit: Duration,
        mut tick: impl FnMut(u64),
    ) -> Result<PhaseReport> {
        self.shared.ready.store(0, Relaxed);
        for worker in &self.workers {
            let part = worker.users as f64 / self.users().max(1) as f64;
            // A worker that is gone is found missing below, and says why when it is joined.
            let _ = worker.orders.send(order(part));
        }
        let deadline = Instant::now() + limit + SLACK;
        let mut sum = PhaseReport::default();
        let mut missing = self.workers.len();
        while missing > 0 {
            tick(self.shared.ready.load(Relaxed));
            match self.reports.recv_timeout(TICK) {
                Ok(report) => {
                    sum.latency.add(&report.latency).context("adding latencies")?;
                    sum.done += report.done;
                    sum.retried += report.retried;
                    sum.sent += report.sent;
                    sum.elapsed = sum.elapsed.max(report.elapsed);
                    missing -= 1;
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(_) => bail!("{missing} workers of the generator do not answer"),
            }
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::sasl::Auth;
    use crate::client::session::Accounts;
    use crate::client::user::Transport;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

    /// All that a server says at a login. It may say it at once: users do not check that it waits for them.
    const LOGIN: &[u8] = b"<?xml version='1.0'?><stream:stream id='1'><stream:features><mechanisms>\
        <mechanism>PLAIN</mechanism></mechanisms></stream:features><success/>\
        <?xml version='1.0'?><stream:stream id='2'><stream:features><bind/></stream:features>\
        <iq type='result'><bind><jid>a@b/c</jid></bind></iq><presence from='a@b/c'/>";
    const USERS: usize = 3;
    const AT_ONCE: Arrival = Arrival { ramp: f64::INFINITY, at_once: USERS, retries: 0 };

    /// Logs all users in, and goes away or, if it is `patient`, waits for each to close its stream.
    fn server(patient: bool) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut users: Vec<TcpStream> = (0..USERS).map(|_| listener.accept().unwrap().0).collect();
            users.iter_mut().for_each(|user| user.write_all(LOGIN).unwrap());
            if patient {
                users.iter_mut().for_each(see_off);
            }
        });
        address
    }

    fn see_off(user: &mut TcpStream) {
        let mut said = Vec::new();
        while !said.ends_with(b"</stream:stream>") {
            let mut byte = [0];
            user.read_exact(&mut byte).unwrap();
            said.push(byte[0]);
        }
        user.write_all(b"</stream:stream>").unwrap();
    }

    fn members(server: SocketAddr) -> Members {
        Members {
            first: 0,
            count: USERS,
            transports: vec![Transport::Tcp],
            accounts: Accounts {
                domain: "b".to_owned(),
                auth: Auth::Plain,
                prefix: "user".to_owned(),
                password: "secret".to_owned(),
                caps: false,
            },
            c2s: server,
            http: server,
        }
    }

    #[test]
    fn all_users_log_in_and_out() {
        let run = CrowdRun::start(&members(server(true))).unwrap();
        let online = run.log_in(AT_ONCE, |_| ()).unwrap();
        let left = run.log_out(f64::INFINITY, |_| ()).unwrap();
        assert_eq!((online.done, left.done), (USERS as u64, USERS as u64));
        assert!(run.finish().unwrap().is_empty());
    }

    #[test]
    fn users_of_a_server_that_goes_away_are_counted() {
        let run = CrowdRun::start(&members(server(false))).unwrap();
        run.log_in(AT_ONCE, |_| ()).unwrap();
        let hour = Duration::from_secs(3600);
        let report = run.traffic(Kind::Ping, Rate::Fixed(10.0), hour, "", |_| ()).unwrap();
        assert_eq!(report.done, 0);
        let causes = run.finish().unwrap();
        let lost: u64 = causes.iter().filter(|(cause, _)| cause.starts_with("tcp ")).map(|c| c.1).sum();
        assert_eq!(lost, USERS as u64, "{causes:?}");
        assert!(causes.contains_key("traffic: not begun in time"), "{causes:?}");
    }

    /// Upgrades each connection and closes the WebSocket at once.
    fn busy_server() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for user in listener.incoming() {
                let mut user = user.unwrap();
                let mut said = Vec::new();
                while !said.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    user.read_exact(&mut byte).unwrap();
                    said.push(byte[0]);
                }
                let said = String::from_utf8(said).unwrap();
                let key = said.split("Sec-WebSocket-Key: ").nth(1).unwrap().split('\r').next().unwrap();
                let accept = crate::client::ws::accept(key);
                let head = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept:";
                write!(user, "{head} {accept}\r\n\r\n").unwrap();
                user.write_all(&[0x88, 2, 0x03, 0xe8]).unwrap();
            }
        });
        address
    }

    #[test]
    fn users_who_are_turned_away_try_again_as_often_as_they_may() {
        let members = Members { transports: vec![Transport::Ws], ..members(busy_server()) };
        for retries in [0, 2] {
            let run = CrowdRun::start(&members).unwrap();
            let report = run.log_in(Arrival { retries, ..AT_ONCE }, |_| ()).unwrap();
            assert_eq!((report.done, report.retried), (0, USERS as u64 * u64::from(retries)));
            let causes = run.finish().unwrap();
            let turned_away = causes.get("ws stream: turned away (WebSocket close 1000)");
            assert_eq!(turned_away, Some(&(USERS as u64)), "{causes:?}");
        }
    }

    /// Logs six users in under names of their own and answers each message; says to whom messages went.
    fn post_office() -> (SocketAddr, Receiver<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receivers) = channel();
        for number in 0..6 {
            let (listener, sender) = (listener.try_clone().unwrap(), sender.clone());
            thread::spawn(move || {
                let mut user = listener.accept().unwrap().0;
                let login = String::from_utf8(LOGIN.to_vec()).unwrap();
                user.write_all(login.replace("a@b/c", &format!("a{number}@b/c")).as_bytes()).unwrap();
                let mut said = String::new();
                let mut byte = [0];
                while user.read_exact(&mut byte).is_ok() {
                    said.push(char::from(byte[0]));
                    if said.ends_with("</message>") {
                        let message = said.split("<message").last().unwrap().to_owned();
                        let quoted = |name| message.split(name).nth(1).unwrap().split('\'').next().unwrap();
                        sender.send(quoted(" to='").to_owned()).unwrap();
                        write!(user, "<message id='{}'/>", quoted(" id='")).unwrap();
                    }
                }
            });
        }
        (address, receivers)
    }

    #[test]
    fn sleepers_are_woken_in_turn_over_orders() {
        let (server, receivers) = post_office();
        let run = CrowdRun::start(&Members { count: 6, ..members(server) }).unwrap();
        assert_eq!(run.log_in(Arrival { at_once: 6, ..AT_ONCE }, |_| ()).unwrap().done, 6);
        let wake = |among| {
            let two = Duration::from_millis(2);
            let kind = Kind::Wake { among };
            assert_eq!(run.traffic(kind, Rate::Fixed(1000.0), two, "", |_| ()).unwrap().done, 2);
            let mut woken: Vec<String> = receivers.try_iter().collect();
            woken.sort();
            woken
        };
        // Three of the six send.
        let mut turns: Vec<String> = (0..3).flat_map(|_| wake(5)).collect();
        turns.sort();
        let each = turns.chunks(2).all(|turn| turn[0] == turn[1]);
        turns.dedup();
        assert!(each && turns.len() == 3, "{turns:?}");
        let first = wake(1);
        assert_eq!(first[0], first[1]);
        assert!(run.finish().unwrap().is_empty());
    }
}
