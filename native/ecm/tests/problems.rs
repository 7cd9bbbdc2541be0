//! What is wrong with a configuration is said with its place and what to do; all of it in one run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Directory, ENVIRONMENT, Parts, load, problems, repository};
use megaphone_ecm::settings::{self, Balance, Environment, Position, Settings};
use std::time::Duration;

/// The one problem of a file.
#[track_caller]
fn only(parts: Parts<'_>, expected: &str) {
    assert_eq!(problems(&parts.text()), [expected]);
}

#[track_caller]
fn root(line: &str, expected: &str) {
    only(Parts { root: line, ..Parts::default() }, expected);
}

#[track_caller]
fn listener(lines: &str, expected: &str) {
    only(Parts { listener: lines, ..Parts::default() }, expected);
}

#[track_caller]
fn node(lines: &str, expected: &str) {
    only(Parts { node: lines, ..Parts::default() }, expected);
}

#[track_caller]
fn tables(lines: &str, expected: &str) {
    only(Parts { tables: lines, ..Parts::default() }, expected);
}

#[track_caller]
fn settings(parts: Parts<'_>) -> Settings {
    load(&parts.text()).unwrap()
}

#[test]
fn defaults_are_those_of_the_reference() {
    let settings = settings(Parts::default());
    assert_eq!((&*settings.link.name, settings.link.resume_timeout), ("ecm1", Duration::from_secs(30)));
    assert_eq!((settings.workers, settings.max_connections), (6, 100_000));
    assert_eq!((settings.balance, settings.http), (Balance::Address, None));
    assert_eq!((settings.drain.deadline, settings.drain.pace), (Duration::from_secs(300), 334));
    let listener = &settings.listeners[0];
    assert_eq!((listener.max_connections, listener.backlog), (100_000, 4096));
    let node = &settings.nodes[0];
    assert_eq!((node.port, node.links, node.weight), (6280, 1, 1));
    assert!(settings.erlang_node.is_none() && listener.proxy_protocol.is_none());
}

#[test]
fn all_problems_are_named_in_the_order_of_the_file() {
    let parts =
        Parts { root: "balance = 1", node: "port = 0", tables: "[link]\nack = 2", ..Parts::default() };
    let known = "handshake_timeout, resume_timeout, ack_delay, ping_interval, silence_timeout, resend_bytes, unsent_bytes, \
                 max_payload, initial_credit, max_streams";
    assert_eq!(
        problems(&parts.text()),
        [
            "3:11: balance: expected a string, found an integer".to_owned(),
            "11:8: port: expected an integer from 1 to 65535, found 0".to_owned(),
            format!("13:1: unknown key \"ack\" in [link]: it can be {known}"),
        ]
    );
}

#[test]
fn an_empty_file_lacks_what_is_required() {
    assert_eq!(
        problems(""),
        [
            "1:1: the file has no name: add name = \"ecm1\"",
            "1:1: the file has no secret_file: add secret_file = \"/etc/megaphone/ecm.secret\"",
            "1:1: there are no listeners: add [[listeners]] with listen = \"0.0.0.0:5222\" and for = \"c2s\"",
            "1:1: there are no nodes: add [[nodes]] with name = \"ejabberd@host.example.org\" and address = \"192.0.2.1\"",
        ]
    );
}

#[test]
fn what_is_not_toml_is_named_alone() {
    let text = "name = \"x\nb = = 3\n";
    assert_eq!(
        problems(text),
        [
            "1:10: not TOML: invalid basic string, expected `\"`",
            "2:5: not TOML: extra `=`, expected nothing",
            "2:7: not TOML: unexpected key or value, expected newline, `#`",
        ]
    );
}

#[test]
fn keys_that_are_not_known_are_refused() {
    root(
        "listener = 1",
        "3:1: unknown key \"listener\": it can be name, secret_file, link, max_connections, workers, balance, listeners, nodes, \
         drain, erlang_node, http",
    );
    node(
        "port_ = 1",
        "11:1: unknown key \"port_\" in [[nodes]]: it can be name, address, port, links, weight",
    );
    tables("[http]\nlisten = \"[::1]:80\"\nx = 1", "14:1: unknown key \"x\" in [http]: it can be listen");
}

#[test]
fn a_table_has_to_be_one() {
    root("link = 3", "3:8: expected a table [link], found an integer");
    let text = "name = \"a\"\nsecret_file = \"ecm.secret\"\nlisteners = true\nnodes = [1]";
    assert_eq!(
        problems(text),
        [
            "3:13: expected tables [[listeners]], found a boolean",
            "4:10: expected a table [[nodes]], found an integer",
        ]
    );
    let text = text.replace("true", "[]").replace("[1]", "[]");
    assert_eq!(
        problems(&text),
        [
            "3:13: there are no listeners: add [[listeners]] with listen = \"0.0.0.0:5222\" and for = \"c2s\"",
            "4:9: there are no nodes: add [[nodes]] with name = \"ejabberd@host.example.org\" and address = \"192.0.2.1\"",
        ]
    );
}

#[test]
fn depth_is_bounded() {
    let text = format!("a = {}", "[".repeat(100_000));
    assert_eq!(
        problems(&text),
        [
            "1:85: not TOML: cannot recurse further; max recursion depth met",
            "1:100005: not TOML: unclosed array, expected `]`",
        ]
    );
}

#[test]
fn what_is_not_utf_8_is_named_with_its_place() {
    let directory = Directory::new();
    std::fs::write(directory.path("ecm.toml"), b"name = \"ecm1\"\n# \xc3\xbc \xff\n").unwrap();
    let problems = settings::load(&directory.path("ecm.toml"), &ENVIRONMENT).unwrap_err();
    assert_eq!(problems.list[0].position, Some(Position { line: 2, column: 5 }));
    assert_eq!((problems.list.len(), &*problems.list[0].message), (1, "not UTF-8: save the file in it"));
}

/// Nor are the workers or a listener's bound wrong because of it.
#[test]
fn nothing_follows_from_a_wrong_number_of_connections() {
    let root = "max_connections = 0\nworkers = 1";
    let listener = "max_connections = 200_000";
    only(
        Parts { root, listener, ..Parts::default() },
        "3:19: max_connections: expected an integer from 1 to 16777216, found 0",
    );
}

#[test]
fn names_have_bounds() {
    let long = format!("for = \"{}\"", "x".repeat(129));
    let text = Parts::default().text().replace("for = \"c2s\"", &long);
    assert_eq!(problems(&text), ["6:7: for: expected 1 to 128 bytes without control characters"]);
    let text = Parts::default().text().replace("ejabberd@a", "ejabberd");
    let hint = "is not the name of an Erlang node: write it as \"ejabberd@host.example.org\"";
    assert_eq!(problems(&text), [format!("9:8: name: \"ejabberd\" {hint}")]);
}

#[test]
fn numbers_have_bounds() {
    root("workers = 2.5", "3:11: workers: expected an integer from 1 to 256, found a float");
    root("workers = 0x1ff", "3:11: workers: expected an integer from 1 to 256, found 0x1ff");
    root("max_connections = -1", "3:19: max_connections: expected an integer from 1 to 16777216, found -1");
    let huge = "99999999999999999999";
    listener(
        &format!("backlog = {huge}"),
        &format!("7:11: backlog: expected an integer from 1 to 65535, found {huge}"),
    );
    node("links = 65", "11:9: links: expected an integer from 1 to 64, found 65");
    node("weight = 0", "11:10: weight: expected an integer from 1 to 1000, found 0");
}

#[test]
fn durations_have_a_unit_and_bounds() {
    let wanted = "expected a duration such as \"200 ms\", \"30 s\", \"5 min\" or \"1 h\"";
    tables("[link]\nresume_timeout = 30", &format!("13:18: resume_timeout: {wanted}, found an integer"));
    for wrong in ["30", "1.5 s", "s", "", "3 days", "-1 s", "30 s ", "99999999999999999999 h"] {
        tables(
            &format!("[drain]\ndeadline = \"{wrong}\""),
            &format!("13:12: deadline: {wanted}, found {wrong:?}"),
        );
    }
    tables(
        "[drain]\ndeadline = \"25 h\"",
        "13:12: deadline: expected a duration from \"1 s\" to \"24 h\", found \"25 h\"",
    );
    let right =
        Parts { tables: "[drain]\ndeadline = \"2min\"\n[link]\nack_delay = \"50 ms\"", ..Parts::default() };
    let settings = settings(right);
    assert_eq!((settings.drain.deadline, settings.drain.pace), (Duration::from_secs(120), 834));
    assert_eq!(settings.link.ack_delay, Duration::from_millis(50));
}

#[test]
fn balance_is_one_of_two() {
    root("balance = \"random\"", "3:11: balance: \"random\" is unknown: use \"address\" or \"least\"");
    assert_eq!(settings(Parts { root: "balance = \"least\"", ..Parts::default() }).balance, Balance::Least);
}

#[test]
fn listeners_need_an_address_and_a_name() {
    let parts = Parts { tables: "[[listeners]]\nbacklog = 5", ..Parts::default() };
    assert_eq!(
        problems(&parts.text()),
        [
            "12:1: [[listeners]] has no listen: add listen = \"0.0.0.0:5222\"",
            "12:1: [[listeners]] has no for: add for = \"c2s\"",
        ]
    );
}

#[test]
fn addresses_have_an_ip_and_a_port() {
    let hint = "is not an IP address with a port: write it as \"0.0.0.0:5222\" or \"[::]:5222\"";
    for wrong in ["5222", "localhost:5222", "::1:5222", "0.0.0.0"] {
        tables(&other_listener(wrong), &format!("13:10: listen: {wrong:?} {hint}"));
    }
    tables(&other_listener("[::]:0"), "13:10: listen: \"[::]:0\" has port 0: choose one from 1 to 65535");
    tables(
        &other_listener("[::ffff:192.0.2.1]:5223"),
        "13:10: listen: \"[::ffff:192.0.2.1]:5223\" is an IPv4 address in the form of IPv6: write it as \"192.0.2.1:5223\"",
    );
}

fn other_listener(listen: &str) -> String {
    format!("[[listeners]]\nlisten = {listen:?}\nfor = \"c2s\"")
}

#[test]
fn an_address_is_listened_to_once() {
    let taken = "taken by 0.0.0.0:5222 in line 5: change the port, or take one out";
    tables(&other_listener("0.0.0.0:5222"), &format!("13:10: listen: 0.0.0.0:5222 is {taken}"));
    tables(&other_listener("127.0.0.1:5222"), &format!("13:10: listen: 127.0.0.1:5222 is {taken}"));
    tables("[http]\nlisten = \"127.0.0.1:5222\"", &format!("13:10: listen: 127.0.0.1:5222 is {taken}"));
    assert_eq!(
        settings(Parts { tables: &other_listener("[::]:5222"), ..Parts::default() }).listeners.len(),
        2
    );
}

#[test]
fn a_listener_has_no_more_connections_than_the_whole() {
    listener(
        "max_connections = 100_001",
        "7:19: max_connections: 100001 is above the 100000 of the whole: lower it, or raise max_connections before the tables",
    );
}

#[test]
fn proxies_are_networks_of_the_listeners_family() {
    let hint = "is not a network: write it as \"10.0.0.0/8\", \"fd00::/8\" or \"10.0.0.1\"";
    for wrong in ["10.0.0.0/33", "10.0.0", "proxy", "10.0.0.0/", "10.0.0.0/-1"] {
        listener(&from(wrong), &format!("7:23: proxy_protocol_from: {wrong:?} {hint}"));
    }
    listener(
        &from("fd00::/8"),
        "7:23: proxy_protocol_from: nobody from the IPv6 network of fd00:: can connect to 0.0.0.0:5222, which is IPv4 only: \
         take it out, or add a listener for IPv6",
    );
    listener(
        "proxy_protocol_from = true",
        "7:23: proxy_protocol_from: expected a list of networks such as [\"10.0.0.0/8\", \"fd00::/8\"], found a boolean",
    );
    listener(
        "proxy_protocol_from = []",
        "7:23: proxy_protocol_from: the list is empty, so nobody could connect: name the proxies, or leave the key out",
    );
    let settings = settings(Parts { listener: &from("10.0.0.0/8"), ..Parts::default() });
    let proxy = settings.listeners[0].proxy_protocol.as_ref().unwrap();
    assert_eq!((proxy.trusted.as_ref().unwrap().len(), proxy.header_timeout), (1, Duration::from_secs(5)));
}

fn from(network: &str) -> String {
    format!("proxy_protocol_from = [{network:?}]")
}

#[test]
fn a_header_timeout_without_proxies_is_refused() {
    listener(
        "proxy_header_timeout = \"1 s\"",
        "7:24: proxy_header_timeout means nothing without proxy_protocol_from: add it, or take this out",
    );
}

#[test]
fn nodes_are_machines_with_names() {
    let hint = "is neither an IP address nor a host name: write it as \"192.0.2.1\", with the port in port";
    for wrong in ["192.0.2.1:6280", "192.0.2.256", "", "a..b", "a b", "[::1]"] {
        tables(&other_node("ejabberd@b", wrong), &format!("14:11: address: {wrong:?} {hint}"));
    }
    for right in ["node2.example.org", "::1", "192.0.2.2"] {
        assert_eq!(
            settings(Parts { tables: &other_node("ejabberd@b", right), ..Parts::default() }).nodes.len(),
            2
        );
    }
}

fn other_node(name: &str, address: &str) -> String {
    format!("[[nodes]]\nname = {name:?}\naddress = {address:?}")
}

#[test]
fn a_node_is_named_once() {
    tables(
        &other_node("ejabberd@a", "192.0.2.2"),
        "13:8: name: ejabberd@a is in line 9 already: give each node once, and use links for more than one link",
    );
    tables(
        &other_node("ejabberd@b", "192.0.2.1"),
        "14:11: address: 192.0.2.1 port 6280 is in line 10 already: two nodes can't have one port, so change address or port",
    );
}

#[test]
fn bounds_of_a_link_go_together() {
    tables(
        "[link]\nping_interval = \"30 s\"",
        "13:17: silence_timeout has to be above ping_interval: three times it is usual",
    );
    tables("[link]\nresend_bytes = 65_535", "13:16: resend_bytes has to be at least four times max_payload");
    tables(
        "[link]\nmax_payload = 1023",
        "13:15: max_payload: expected an integer from 1024 to 65535, found 1023",
    );
}

#[test]
fn links_have_streams_for_all_connections() {
    let parts = Parts {
        root: "max_connections = 2_001",
        node: "links = 2",
        tables: "[link]\nmax_streams = 1000",
        ..Parts::default()
    };
    only(
        parts,
        "3:19: max_connections: all links together (2) have 2000 streams, not 2001: raise links or max_streams, or lower \
         max_connections",
    );
}

#[test]
fn connections_fit_into_the_descriptors_of_the_workers() {
    root(
        "workers = 5",
        "3:11: 5 workers with 20000 descriptors each (the hard limit of this process) hold 96825 connections, not 100000: set \
         workers = 6, or raise the limit to 20647 (LimitNOFILE=20647 in the systemd unit, ulimit -n 20647 in a shell), or lower \
         max_connections",
    );
    only(
        Parts { root: "max_connections = 10_000_000", node: "links = 64", ..Parts::default() },
        "3:19: 256 workers with 20000 descriptors each (the hard limit of this process) hold 4878080 connections, not 10000000: \
         raise the limit to 40248 (LimitNOFILE=40248 in the systemd unit, ulimit -n 40248 in a shell), or lower max_connections",
    );
    let directory = Directory::new();
    let environment = Environment { descriptors: 65, workers: Some(1) };
    assert_eq!(
        directory.problems(&Parts::default().text(), &environment),
        [
            "1:1: 1 worker with 65 descriptors each (the hard limit of this process) hold 0 connections, not 100000: raise the \
          limit to 100067 (LimitNOFILE=100067 in the systemd unit, ulimit -n 100067 in a shell), or lower max_connections"
        ]
    );
}

#[test]
fn health_and_metrics_stay_on_the_machine() {
    tables(
        "[http]\nlisten = \"0.0.0.0:6281\"",
        "13:10: listen: 0.0.0.0:6281 can be reached from other machines, by whomever: use \"127.0.0.1:6281\" or \"[::1]:6281\"",
    );
    tables("[http]", "12:1: [http] has no listen: add listen = \"127.0.0.1:6281\"");
}

/// Each key that is known, by what is said of those that are not.
#[test]
fn the_reference_has_every_key() {
    let text = Parts { root: "x = 1", listener: "x = 1", node: "x = 1", tables: EVERY_TABLE }.text();
    let reference = std::fs::read_to_string(repository().join("docs/ecm.md")).unwrap();
    let unknown: Vec<_> =
        problems(&text).into_iter().filter(|problem| problem.contains("unknown key")).collect();
    assert_eq!(unknown.len(), 7);
    for key in unknown.iter().flat_map(|problem| problem.split_once("can be ").unwrap().1.split(", ")) {
        let is_there =
            [format!("| `{key}` |"), format!("[{key}]")].iter().any(|text| reference.contains(text));
        assert!(is_there, "{key} is not in docs/ecm.md");
    }
}

const EVERY_TABLE: &str = "[link]\nx = 1\n[drain]\nx = 1\n[erlang_node]\nx = 1\n[http]\nx = 1";
