//! The Erlang node, asked by real ones. They have an epmd of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::control::{CONNECTION, Fixed};
use common::{Directory, ENVIRONMENT, Parts};
use md5::{Digest as _, Md5};
use megaphone_ecm::erlang_node::{self, Handle};
use megaphone_ecm::settings::ErlangNode;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Of this process.
static NEXT_EPMD: AtomicU16 = AtomicU16::new(0);

/// Ends with the test that started it.
struct Epmd {
    process: Child,
    address: SocketAddr,
}

impl Epmd {
    /// Below the ports that are given to who connects: with those an attempt to connect could meet itself.
    fn start() -> Self {
        let ports = 15_000 + u16::try_from(std::process::id() % 10_000).unwrap()..;
        let next = NEXT_EPMD.fetch_add(100, Ordering::Relaxed);
        let mut free = ports.skip(next.into()).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Self::start_at(free.find(|address| TcpListener::bind(address).is_ok()).unwrap())
    }

    fn start_at(address: SocketAddr) -> Self {
        let port = address.port().to_string();
        let mut process =
            Command::new("epmd").args(["-port", &port, "-address", "127.0.0.1"]).spawn().unwrap();
        while TcpStream::connect(address).is_err() {
            assert_eq!(process.try_wait().unwrap(), None);
            std::thread::yield_now();
        }
        Self { process, address }
    }

    /// What it says about a node: type and port; none when it knows none.
    fn look_up(&self, name: &str) -> Option<(u8, u16)> {
        let mut socket = TcpStream::connect(self.address).unwrap();
        let length = u16::try_from(name.len() + 1).unwrap().to_be_bytes();
        socket.write_all(&[&length[..], b"z", name.as_bytes()].concat()).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        (answer[1] == 0).then(|| (answer[4], u16::from_be_bytes([answer[2], answer[3]])))
    }

    /// As soon as it knows the node.
    fn await_node(&self, name: &str) -> (u8, u16) {
        loop {
            if let Some(found) = self.look_up(name) {
                return found;
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Epmd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An Erlang node that runs expressions.
struct Erlang {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Erlang {
    fn start(epmd: &Epmd, arguments: &[&str], expressions: &str) -> Self {
        let expressions = format!(
            "N = 'ecm@127.0.0.1', S = {{ecm, N}}, L = fun(M) -> lists:sort(maps:to_list(M)) end, {expressions}, halt()."
        );
        let mut process = Command::new("erl")
            .args(["-noinput", "-kernel", "inet_dist_use_interface", "{127,0,0,1}"])
            .args(arguments)
            .args(["-eval", &expressions])
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            .env("ERL_EPMD_PORT", epmd.address.port().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// All that it prints until it ends.
    fn output(mut self) -> String {
        let mut output = String::new();
        self.lines.read_to_string(&mut output).unwrap();
        output
    }
}

impl Drop for Erlang {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const PEER: [&str; 4] = ["-name", "peer@127.0.0.1", "-setcookie", "monster"];

fn config() -> ErlangNode {
    let tables = "[erlang_node]\nname = \"ecm@127.0.0.1\"\ncookie_file = \"ecm.cookie\"";
    let text = Parts { tables, ..Parts::default() }.text();
    Directory::new().load(&text, &ENVIRONMENT).unwrap().erlang_node.unwrap()
}

struct Fixture {
    epmd: Epmd,
    handle: Handle,
    control: Arc<Fixed>,
}

fn start() -> Fixture {
    let epmd = Epmd::start();
    let control = Arc::new(Fixed::default());
    let handle = erlang_node::start_at(&config(), epmd.address, control.clone()).unwrap();
    assert_eq!(epmd.await_node("ecm"), (b'H', handle.address().port()));
    Fixture { epmd, handle, control }
}

/// What a node prints that is told to print each of these.
fn print(fixture: &Fixture, expressions: &[&str]) -> Vec<String> {
    let print = |expression: &&str| format!("io:format(\"~0p~n\", [catch {expression}])");
    let expressions = expressions.iter().map(print).collect::<Vec<_>>().join(", ");
    Erlang::start(&fixture.epmd, &PEER, &expressions).output().lines().map(str::to_owned).collect()
}

#[test]
fn a_node_is_asked_by_gen_server_calls() {
    let fixture = start();
    let id = CONNECTION.0;
    let answers = print(
        &fixture,
        &[
            "net_adm:ping(N)",
            "maps:get(name, gen_server:call(S, stats))",
            "[maps:get(K, gen_server:call(S, stats)) || K <- [uptime, draining, accepted, received, sent, workers]]",
            "[L(maps:with([name, up, links_up, kept_bytes], M)) || M <- maps:get(nodes, gen_server:call(S, stats))]",
            "[L(M) || M <- gen_server:call(S, listeners)]",
            &format!("L(gen_server:call(S, {{connection, {id}}}))"),
            "gen_server:call(S, {connection, 5})",
            &format!("gen_server:call(S, {{close, {id}}})"),
            "gen_server:call(S, {close, 5})",
            "gen_server:call(S, {drain, 30})",
            "gen_server:call(S, drain)",
            "[element(1, gen_server:call(S, R)) || R <- [{drain, 86401}, {drain, -1}, {close, x}, foo, [], #{}, {a, b, c}]]",
            "nodes(hidden)",
        ],
    );
    assert_eq!(
        answers,
        [
            "pong",
            "<<\"ecm \\\"1\\\"\\n\\\\\">>",
            "[90,false,18446744073709551615,4294967296,300,2]",
            "[[{kept_bytes,0},{links_up,1},{name,<<\"ejabberd@a\">>},{up,true}]]",
            "[[{accepted,7},{connections,1},{for,<<\"c2s\">>},{listen,<<\"192.0.2.7:5222\">>},{max_connections,500},{open,true}]]",
            "[{client,<<\"198.51.100.1:40000\">>},{id,1099511627776},{listen,<<\"192.0.2.7:5222\">>},{node,undefined},{received,5},{sent,6}]",
            "{error,not_found}",
            "ok",
            "{error,not_found}",
            "ok",
            "ok",
            "[error,error,error,error,error,error,error]",
            "['ecm@127.0.0.1']",
        ]
    );
    assert_eq!(*fixture.control.drains.lock().unwrap(), [Some(Duration::from_secs(30)), None]);
    assert_eq!(fixture.control.closed.lock().unwrap()[0], CONNECTION);
}

#[test]
fn what_no_process_is_there_for_is_refused_and_junk_ignored() {
    let fixture = start();
    let answers = print(
        &fixture,
        &[
            "begin {'EXIT', {R, _}} = (catch gen_server:call({nobody, N}, stats)), R end",
            "[gen_server:cast(S, X) || X <- [a, #{1 => [2.5, <<1:3>>, fun lists:map/2, fun() -> N end, self(), make_ref(), hd(erlang:ports())]}]]",
            "[S ! X || X <- [junk, {'$gen_call', 1, 2}, {'$gen_call', {self(), 1}, x}]] =/= []",
            "receive {1, {error, {unknown_request, H}}} -> is_binary(H) after 5000 -> timeout end",
            "begin S ! <<0:16000000>>, S ! {'$gen_call', {self(), 2}, {connection, 1}}, receive {2, G} -> G after 5000 -> timeout end end",
            "begin P = erlang:spawn_request(N, fun() -> ok end), receive {spawn_reply, P, error, X1} -> X1 after 5000 -> timeout end end",
            "begin M = monitor(process, {nobody, N}), receive {'DOWN', M, process, _, Y} -> Y after 5000 -> timeout end end",
            "begin C1 = gen_server:send_request(S, {connection, 5}), gen_server:receive_response(C1, 5000) end",
            "begin C2 = gen_server:send_request(S, {connection, 5}, lbl, gen_server:reqids_new()), element(1, gen_server:receive_response(C2, 5000, true)) end",
            "begin {RP, _} = {rpc:call(N, erlang, node, [], 5000), 1}, RP end",
            "gen_server:call({net_kernel, N}, unheard_of)",
            "nodes(hidden)",
        ],
    );
    assert_eq!(
        answers,
        [
            "noproc",
            "[ok,ok]",
            "true",
            "true",
            "{error,not_found}",
            "notsup",
            "noproc",
            "{reply,{error,not_found}}",
            "{reply,{error,not_found}}",
            "{badrpc,notsup}",
            "{error,unknown_request}",
            "['ecm@127.0.0.1']",
        ]
    );
}

#[test]
fn an_address_that_is_configured_is_listened_on() {
    let epmd = Epmd::start();
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = ErlangNode { listen: Some(listen), ..config() };
    let handle = erlang_node::start_at(&config, epmd.address, Arc::new(Fixed::default())).unwrap();
    assert_eq!(handle.address(), listen);
    assert_eq!(epmd.await_node("ecm"), (b'H', listen.port()));
    let error =
        erlang_node::start_at(&config, epmd.address, Arc::new(Fixed::default())).unwrap_err().to_string();
    assert!(error.starts_with(&format!("[erlang_node] can't listen on {listen}: ")), "{error}");
}

#[test]
fn a_node_with_another_cookie_gets_nothing() {
    let fixture = start();
    let foreign = ["-name", "peer@127.0.0.1", "-setcookie", "foreign"];
    let ask = "logger:set_primary_config(level, none), io:format(\"~0p ~0p~n\", [net_adm:ping(N), catch gen_server:call(S, stats)])";
    let output = Erlang::start(&fixture.epmd, &foreign, ask).output();
    assert!(output.starts_with("pang {'EXIT',{{nodedown,'ecm@127.0.0.1'}"), "{output}");
    assert_eq!(print(&fixture, &["net_adm:ping(N)"]), ["pong"]);
}

#[test]
fn a_node_that_ends_is_noticed() {
    let Fixture { epmd, handle, .. } = start();
    let watch = "true = monitor_node(N, true), R = monitor(process, S), io:format(\"~p~n\", [net_adm:ping(N)]), \
                 receive {nodedown, N} -> ok end, receive {'DOWN', R, process, _, noconnection} -> io:format(\"down~n\") end";
    let mut watcher = Erlang::start(&epmd, &PEER, watch);
    assert_eq!(watcher.line(), "pong");
    handle.stop();
    assert_eq!(watcher.line(), "down");
    assert_eq!(epmd.look_up("ecm"), None);
}

#[test]
fn a_node_is_registered_anew_when_epmd_was_restarted_or_comes_late() {
    let Fixture { epmd, handle, .. } = start();
    let address = epmd.address;
    drop(epmd);
    let epmd = Epmd::start_at(address);
    assert_eq!(epmd.await_node("ecm"), (b'H', handle.address().port()));
}

#[test]
fn another_connection_of_a_node_takes_the_place_of_one_that_it_gave_up() {
    let fixture = start();
    let again = "pong = net_adm:ping(N), erlang:disconnect_node(N), io:format(\"~p~n\", [net_adm:ping(N)])";
    assert_eq!(Erlang::start(&fixture.epmd, &PEER, again).output(), "pong\n");
    // Nodes end without a word, and come back under their names.
    for _ in 0..3 {
        assert_eq!(print(&fixture, &["net_adm:ping(N)"]), ["pong"]);
    }
}

#[test]
fn ticks_keep_a_node_connected() {
    let fixture = start();
    let mut arguments = PEER.to_vec();
    arguments.extend(["-kernel", "net_ticktime", "4"]);
    let wait = "pong = net_adm:ping(N), monitor_node(N, true), \
                receive {nodedown, N} -> io:format(\"down~n\") after 9000 -> io:format(\"up~n\") end";
    assert_eq!(Erlang::start(&fixture.epmd, &arguments, wait).output(), "up\n");
}

#[test]
fn as_many_as_like_can_be_in_their_handshake_and_others_connect() {
    let fixture = start();
    let address = fixture.handle.address();
    let mut silent = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>();
    // Those beyond the bound are closed at once, the others in 5 s.
    for socket in &mut silent {
        assert_eq!(socket.read(&mut [0]).unwrap_or(0), 0);
    }
    assert_eq!(print(&fixture, &["net_adm:ping(N)"]), ["pong"]);
}

/// A node that is made of bytes.
struct Raw(TcpStream);

impl Raw {
    /// Says its name.
    fn introduce(address: SocketAddr, name: &str) -> Self {
        let mut raw = Self(TcpStream::connect(address).unwrap());
        let flags = 0xd_07df_7fbd_u64.to_be_bytes();
        let length = u16::try_from(name.len()).unwrap().to_be_bytes();
        raw.send(&[b"N", &flags[..], &[0, 0, 0, 9], &length, name.as_bytes()].concat());
        raw
    }

    fn send(&mut self, message: &[u8]) {
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        self.0.write_all(&[&length, message].concat()).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 2];
        self.0.read_exact(&mut length).unwrap();
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        self.0.read_exact(&mut message).unwrap();
        message
    }

    /// From its challenge on. False when it is closed.
    fn prove(&mut self) -> bool {
        let message = self.receive();
        let challenge = u32::from_be_bytes(message[9..13].try_into().unwrap());
        let proof = Md5::digest(format!("monster{challenge}"));
        self.send(&[b"r\0\0\0\0", &proof[..]].concat());
        self.0.read(&mut [0; 19]).unwrap() == 19
    }

    fn connect(address: SocketAddr, name: &str) -> Option<Self> {
        let mut raw = Self::introduce(address, name);
        assert_eq!(raw.receive(), b"sok");
        raw.prove().then_some(raw)
    }

    fn is_closed(&mut self) -> bool {
        self.0.read(&mut [0]).unwrap() == 0
    }
}

#[test]
fn a_connection_that_its_node_calls_stale_gives_way() {
    let fixture = start();
    let address = fixture.handle.address();
    let mut first = Raw::connect(address, "raw@127.0.0.1").unwrap();
    let mut keeps = Raw::introduce(address, "raw@127.0.0.1");
    assert_eq!(keeps.receive(), b"salive");
    keeps.send(b"sfalse");
    assert!(keeps.is_closed());
    let mut second = Raw::introduce(address, "raw@127.0.0.1");
    assert_eq!(second.receive(), b"salive");
    second.send(b"strue");
    assert!(second.prove());
    assert!(first.is_closed());
}

#[test]
fn there_is_a_bound_on_nodes_that_are_connected() {
    let fixture = start();
    let address = fixture.handle.address();
    let connect = |number| Raw::connect(address, &format!("raw{number}@127.0.0.1"));
    let mut nodes = (0..64).map(|number| connect(number).unwrap()).collect::<Vec<_>>();
    assert!(connect(64).is_none_or(|mut node| node.is_closed()));
    nodes.pop();
    assert_eq!(print(&fixture, &["net_adm:ping(N)"]), ["pong"]);
}
