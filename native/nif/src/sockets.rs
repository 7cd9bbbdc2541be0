//! What a process does with a connection.

use crate::decode::conn;
use crate::host::{CallerSink, Pid, Waiter};
use crate::info::owner_term;
use crate::options::encode_timeout;
use crate::system::system;
use crate::terms::{answer, done};
use crate::{atoms, effort, fd, monitors, terms};
#[cfg(feature = "fault-injection")]
use megaphone_core::Owned;
use megaphone_core::{Delivery, Effort, Error, PollOutcome, ReadOutcome, Received, Shutdown, WriteOutcome};
use rustler::types::atom::Atom;
use rustler::{Binary, Encoder, Env, LocalPid, NifResult, Term};
use std::cell::RefCell;

/// `{ok, Data}`, or `{wait, Ref, ParkAfter}` after which `{'$megaphone', Ref}` comes, or `large` for `get_large_data`.
#[rustler::nif]
fn get_data(env: Env<'_>, id: u64, length: usize) -> NifResult<Term<'_>> {
    read(env, id, length, Effort::Normal)
}

/// The same for data that take their time to copy.
#[rustler::nif(schedule = "DirtyCpu")]
fn get_large_data(env: Env<'_>, id: u64, length: usize) -> NifResult<Term<'_>> {
    read(env, id, length, Effort::Large)
}

fn read(env: Env<'_>, id: u64, length: usize, effort: Effort) -> NifResult<Term<'_>> {
    let system = system()?;
    let caller = env.pid();
    let mut reference = None;
    let read = conn(id).and_then(|conn| {
        system.read(
            conn,
            Pid(caller),
            (length, effort),
            &mut CallerSink { env },
            Some(|| Waiter::wake_up(caller, *reference.insert(env.make_ref()))),
            |received, delivery| give(env, effort, &received, delivery),
        )
    });
    Ok(match read {
        Ok(ReadOutcome::Data(data)) => (atoms::ok(), data).encode(env),
        Ok(ReadOutcome::Wait { park_after }) => {
            let reference = reference.map(|reference| *reference);
            (atoms::wait(), reference, encode_timeout(env, park_after)).encode(env)
        }
        Ok(ReadOutcome::Large) => atoms::large().encode(env),
        Err(error) => terms::error(env, error),
    })
}

fn give<'a>(env: Env<'a>, effort: Effort, received: &Received<'_>, delivery: Delivery) -> Term<'a> {
    effort::charge_given(env, effort, received, delivery);
    terms::received(env, received, delivery)
}

thread_local! {
    /// One a scheduler, for reads by a caller.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// As `get_data`, but the caller does not begin to wait: `none` when nothing is there, `soon` when it is worth
/// looking again, `large` when it takes `get_large_data`.
#[rustler::nif]
fn poll_data(env: Env<'_>, id: u64, length: usize) -> NifResult<Term<'_>> {
    let system = system()?;
    let read = conn(id).and_then(|conn| {
        BUFFER.with_borrow_mut(|buf| {
            system.poll_read(
                conn,
                Pid(env.pid()),
                length,
                &mut CallerSink { env },
                buf,
                |received, delivery| give(env, Effort::Normal, &received, delivery),
            )
        })
    });
    Ok(match read {
        Ok(PollOutcome::Data(data)) => (atoms::ok(), data).encode(env),
        Ok(PollOutcome::Large) => atoms::large().encode(env),
        Ok(PollOutcome::Soon) => atoms::soon().encode(env),
        Ok(PollOutcome::Nothing) => atoms::none().encode(env),
        Err(error) => terms::error(env, error),
    })
}

#[rustler::nif]
fn cancel_wait<'a>(env: Env<'a>, id: u64, _reference: Term<'a>) -> NifResult<Atom> {
    let system = system()?;
    // Who waited on a connection that is gone has been woken.
    let waited = conn(id).and_then(|conn| system.cancel_wait(conn, Pid(env.pid()), &mut CallerSink { env }));
    Ok(if waited == Ok(true) { atoms::ok() } else { atoms::sent() })
}

#[rustler::nif]
fn park(env: Env<'_>, id: u64) -> NifResult<Term<'_>> {
    let system = system()?;
    let parked = conn(id).and_then(|conn| system.park(conn, Pid(env.pid()), &mut CallerSink { env }));
    Ok(match parked {
        Ok(true) => atoms::ok().encode(env),
        Ok(false) => atoms::ready().encode(env),
        Err(error) => terms::error(env, error),
    })
}

/// `ok`, `{wait, Ref}`, or `large` for `send_large`.
#[rustler::nif]
fn send<'a>(env: Env<'a>, id: u64, data: Term<'a>) -> NifResult<Term<'a>> {
    write(env, id, data, Effort::Normal)
}

/// The same for data that take their time to copy.
#[rustler::nif(schedule = "DirtyCpu")]
fn send_large<'a>(env: Env<'a>, id: u64, data: Term<'a>) -> NifResult<Term<'a>> {
    write(env, id, data, Effort::Large)
}

/// The bytes, or what the caller is answered in their place.
fn iodata<'a>(env: Env<'a>, data: Term<'a>, effort: Effort) -> Result<Binary<'a>, Term<'a>> {
    if !effort::take_on(env, effort, data) {
        return Err(atoms::large().encode(env));
    }
    Binary::from_iolist(data).map_err(|_| terms::error(env, Error::Invalid))
}

fn write<'a>(env: Env<'a>, id: u64, data: Term<'a>, effort: Effort) -> NifResult<Term<'a>> {
    let bytes = match iodata(env, data, effort) {
        Ok(bytes) => bytes,
        Err(answer) => return Ok(answer),
    };
    let system = system()?;
    let caller = env.pid();
    let mut reference = None;
    let written = conn(id).and_then(|conn| {
        system.write(conn, Pid(caller), &bytes, &mut CallerSink { env }, || {
            Waiter::wake_up(caller, *reference.insert(env.make_ref()))
        })
    });
    Ok(match written {
        Ok(WriteOutcome::Done) => atoms::ok().encode(env),
        Ok(WriteOutcome::Wait) => (atoms::wait(), reference.map(|reference| *reference)).encode(env),
        Err(error) => terms::error(env, error),
    })
}

/// How long a send may wait, and whether the connection closes then: `{ok, {Timeout, Close}}`.
#[rustler::nif]
fn send_timeout(env: Env<'_>, id: u64) -> NifResult<Term<'_>> {
    let system = system()?;
    let found = conn(id).and_then(|conn| system.send_timeout(conn));
    Ok(answer(env, found, |(timeout, close)| (encode_timeout(env, timeout), close).encode(env)))
}

/// At most 1 MiB of a file. May wait for the disk, hence not on a normal scheduler.
#[rustler::nif(schedule = "DirtyIo")]
fn sendfile(env: Env<'_>, id: u64, file: i32, offset: u64, count: usize) -> NifResult<Term<'_>> {
    let system = system()?;
    let caller = env.pid();
    let reference = env.make_ref();
    let sent = conn(id).and_then(|conn| {
        let file = fd::duplicate(file)?;
        let waiter = || Waiter::wake_up(caller, reference);
        system.sendfile(conn, Pid(caller), (file, offset, count), &mut CallerSink { env }, waiter)
    });
    Ok(match sent {
        Ok(Some(bytes)) => (atoms::ok(), bytes).encode(env),
        Ok(None) => (atoms::wait(), *reference).encode(env),
        Err(error) => terms::error(env, error),
    })
}

#[rustler::nif]
fn close(env: Env<'_>, id: u64) -> NifResult<Term<'_>> {
    let system = system()?;
    Ok(done(env, conn(id).and_then(|conn| system.close(conn, &mut CallerSink { env }))))
}

#[rustler::nif]
fn abort(env: Env<'_>, id: u64) -> NifResult<Term<'_>> {
    let system = system()?;
    Ok(done(env, conn(id).and_then(|conn| system.abort(conn, &mut CallerSink { env }))))
}

#[rustler::nif]
fn shutdown(env: Env<'_>, id: u64, how: Atom) -> NifResult<Term<'_>> {
    let how = match how {
        how if how == atoms::read() => Shutdown::Read,
        how if how == atoms::write() => Shutdown::Write,
        how if how == atoms::read_write() => Shutdown::Both,
        _ => return Err(rustler::Error::BadArg),
    };
    let system = system()?;
    Ok(done(env, conn(id).and_then(|conn| system.shutdown(conn, how, &mut CallerSink { env }))))
}

#[rustler::nif]
fn handler_started(env: Env<'_>, id: u64, handler: LocalPid) -> NifResult<Term<'_>> {
    let system = system()?;
    Ok(done(
        env,
        conn(id).and_then(|conn| system.handler_started(conn, Pid(handler), &mut CallerSink { env })),
    ))
}

#[rustler::nif]
fn controlling_process(env: Env<'_>, id: u64, from: LocalPid, to: LocalPid) -> NifResult<Term<'_>> {
    let system = system()?;
    let given = conn(id).and_then(|conn| system.give(conn, Pid(from), Pid(to), &mut CallerSink { env }));
    Ok(match given {
        // As `inet` calls a process that is no more.
        Err(Error::Invalid) => (atoms::error(), atoms::badarg()).encode(env),
        given => done(env, given),
    })
}

#[rustler::nif]
fn owner(env: Env<'_>, id: u64) -> NifResult<Term<'_>> {
    let system = system()?;
    Ok(answer(env, conn(id).and_then(|conn| system.owner(conn)), |owner| owner_term(env, owner)))
}

#[rustler::nif]
fn peername(env: Env<'_>, id: u64) -> NifResult<Term<'_>> {
    let system = system()?;
    Ok(answer(env, conn(id).and_then(|conn| system.peer(conn)), |found| terms::address(env, &found)))
}

#[rustler::nif]
fn sockname(env: Env<'_>, id: u64) -> NifResult<Term<'_>> {
    let system = system()?;
    Ok(answer(env, conn(id).and_then(|conn| system.local(conn)), |found| terms::address(env, &found)))
}

#[rustler::nif]
fn getstat(env: Env<'_>, id: u64) -> NifResult<Term<'_>> {
    let system = system()?;
    Ok(answer(env, conn(id).and_then(|conn| system.traffic(conn)), |(traffic, pending)| {
        let average = |bytes: u64, calls: u32| bytes / u64::from(calls.max(1));
        terms::map(
            env,
            &[
                (atoms::recv_oct(), traffic.received.encode(env)),
                (atoms::recv_cnt(), traffic.reads.encode(env)),
                (atoms::recv_max(), traffic.largest_read.encode(env)),
                (atoms::recv_avg(), average(traffic.received, traffic.reads).encode(env)),
                (atoms::send_oct(), traffic.sent.encode(env)),
                (atoms::send_cnt(), traffic.writes.encode(env)),
                (atoms::send_max(), traffic.largest_write.encode(env)),
                (atoms::send_avg(), average(traffic.sent, traffic.writes).encode(env)),
                (atoms::send_pend(), pending.encode(env)),
            ],
        )
    }))
}

/// `ok`, or `large` for `unrecv_large`.
#[rustler::nif]
fn unrecv<'a>(env: Env<'a>, id: u64, data: Term<'a>) -> NifResult<Term<'a>> {
    unread(env, id, data, Effort::Normal)
}

/// The same where something takes its time to copy.
#[rustler::nif(schedule = "DirtyCpu")]
fn unrecv_large<'a>(env: Env<'a>, id: u64, data: Term<'a>) -> NifResult<Term<'a>> {
    unread(env, id, data, Effort::Large)
}

fn unread<'a>(env: Env<'a>, id: u64, data: Term<'a>, effort: Effort) -> NifResult<Term<'a>> {
    let bytes = match iodata(env, data, effort) {
        Ok(bytes) => bytes,
        Err(answer) => return Ok(answer),
    };
    let system = system()?;
    Ok(match conn(id).and_then(|conn| system.unread(conn, &bytes, effort)) {
        Ok(true) => atoms::ok().encode(env),
        Ok(false) => atoms::large().encode(env),
        Err(error) => terms::error(env, error),
    })
}

#[rustler::nif]
fn monitor(env: Env<'_>, id: u64) -> NifResult<Term<'_>> {
    let system = system()?;
    let reference = env.make_ref();
    let monitored = conn(id).and_then(|conn| {
        let waiter = Waiter::down(env.pid(), reference, conn);
        system.monitor(conn, Pid(env.pid()), monitors::number(*reference), waiter)
    });
    Ok(answer(env, monitored, |()| *reference))
}

/// By the process that has made it.
#[rustler::nif]
fn cancel_monitor<'a>(env: Env<'a>, reference: Term<'a>) -> NifResult<bool> {
    if !reference.is_ref() {
        return Ok(false);
    }
    let system = system()?;
    let number = monitors::number(reference);
    Ok(monitors::find(env.pid(), number).is_some_and(|conn| system.demonitor(conn, number)))
}

/// Has the connection's reactor panic.
#[cfg(feature = "fault-injection")]
#[rustler::nif]
fn inject_panic(id: u64) -> NifResult<Atom> {
    let system = system()?;
    if let Ok(conn) = conn(id) {
        system.inject_panic(Owned::Connection(conn), 1);
    }
    Ok(atoms::ok())
}
