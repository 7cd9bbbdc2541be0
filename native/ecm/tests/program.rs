//! The program: what it prints and exits with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Directory, Parts, repository};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// Code, stdout and stderr of the program in a directory, with this hard limit of descriptors.
fn run(directory: &Directory, limit: u32, arguments: &str) -> (i32, String, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_megaphone-ecm")).display();
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -n {limit} && exec '{program}' {arguments}")])
        .current_dir(directory.path(""))
        .env_remove("MEGAPHONE_LOG")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn with_example() -> Directory {
    let directory = Directory::new();
    let example = std::fs::read_to_string(repository().join("native/ecm/example.toml")).unwrap();
    directory.write("example.toml", &example, 0o644);
    directory
}

#[test]
fn the_example_is_fine() {
    let (code, out, err) = run(&with_example(), 1000, "--check example.toml");
    assert_eq!(
        (code, &*out, &*err),
        (0, "example.toml: fine: 3 listeners, 2 nodes, 4 links, 13 workers, up to 10000 connections\n", "")
    );
}

#[test]
fn problems_go_to_stderr_with_code_1() {
    let directory = with_example();
    directory.write("bad.toml", &Parts { root: "a = 1\nworkers = 0", ..Parts::default() }.text(), 0o644);
    let (code, out, err) = run(&directory, 1000, "--check bad.toml");
    let lines: Vec<_> = err.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!((code, &*out, lines), (1, "", vec!["bad.toml:3:1", "bad.toml:4:11"]));
    let (code, _, err) = run(&directory, 1000, "--check nothing.toml");
    assert_eq!((code, &*err), (1, "nothing.toml: can't be read: No such file or directory (os error 2)\n"));
}

#[test]
fn the_limit_is_that_of_the_process() {
    let directory = with_example();
    let (code, _, err) = run(&directory, 1000, "--check --workers 2 example.toml");
    assert_eq!(code, 1);
    assert!(err.starts_with("example.toml:7:19: 2 workers with 1000 descriptors each"), "{err}");
    assert!(err.contains("set workers = 13, or raise the limit to 5"), "{err}");
}

/// With a listener at an address that another program has.
fn taken() -> (Directory, TcpListener) {
    let (directory, other) = (Directory::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let listen = format!("listen = \"{}\"", other.local_addr().unwrap());
    let text = Parts { root: "max_connections = 100", ..Parts::default() }.text();
    directory.write("taken.toml", &text.replace("listen = \"0.0.0.0:5222\"", &listen), 0o644);
    (directory, other)
}

#[test]
fn an_address_that_is_taken_ends_it() {
    let (directory, other) = taken();
    let (code, out, err) = run(&directory, 1000, "taken.toml");
    assert_eq!((code, &*out), (2, ""));
    let said = format!("can't listen at {}: Address already in use", other.local_addr().unwrap());
    assert!(err.contains(&said), "{err}");
}

#[test]
fn logs_have_fields_and_go_to_stderr() {
    let (directory, _other) = taken();
    let (_, out, err) = run(&directory, 1000, "taken.toml");
    assert_eq!(out, "");
    let fields = "configuration read name=\"ecm1\" listeners=1 nodes=1 workers=1 max_connections=100";
    assert!(err.contains(fields), "{err}");
}

#[test]
fn help_and_version_are_given() {
    let directory = Directory::new();
    let (code, out, _) = run(&directory, 1000, "--version");
    assert_eq!((code, out), (0, format!("megaphone-ecm {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, out, _) = run(&directory, 1000, "--help");
    assert_eq!(code, 0);
    assert!(
        ["--check", "--log", "--workers", "MEGAPHONE_LOG"].iter().all(|word| out.contains(word)),
        "{out}"
    );
}

#[test]
fn output_that_can_not_be_written_is_no_panic() {
    let (code, _, err) = run(&with_example(), 1000, "--check example.toml >/dev/full");
    assert_eq!((code, &*err), (2, ""));
    let (code, ..) = run(&with_example(), 1000, "--check nothing.toml 2>/dev/full");
    assert_eq!(code, 1);
    let (directory, _other) = taken();
    let (code, ..) = run(&directory, 1000, "taken.toml 2>/dev/full");
    assert_eq!(code, 2);
}
