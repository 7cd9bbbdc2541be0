//! Files that hold secrets: who may have rights to them, and what has to be in them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Directory, ENVIRONMENT, Parts, SECRET};
use megaphone_ecm::settings::Settings;
use megaphone_proto::link::Secret;
use rustix::fs::{CWD, FileType, Mode, mknodat};

const COOKIE: &str = "[erlang_node]\nname = \"ecm@host\"\ncookie_file = \"ecm.cookie\"";

/// Problems with the secret's file, whose place is always the same.
#[track_caller]
fn secret_problem(directory: &Directory, expected: &str) {
    let problems = directory.problems(&Parts::default().text(), &ENVIRONMENT);
    assert_eq!(problems, [format!("2:15: secret_file: {expected}")]);
}

#[track_caller]
fn cookie_problem(directory: &Directory, expected: &str) {
    let problems = directory.problems(&Parts { tables: COOKIE, ..Parts::default() }.text(), &ENVIRONMENT);
    assert_eq!(problems, [format!("14:15: cookie_file: {expected}")]);
}

#[track_caller]
fn settings(directory: &Directory) -> Settings {
    directory.load(&Parts { tables: COOKIE, ..Parts::default() }.text(), &ENVIRONMENT).unwrap()
}

#[test]
fn a_file_that_others_have_rights_to_is_refused() {
    let directory = Directory::new();
    for mode in [0o604, 0o640, 0o620, 0o601, 0o644] {
        let advice = "chmod 600 ecm.NAME, and replace what is in it if somebody may have read it";
        let problem = format!("ecm.NAME has mode {mode:04o}, so others than its owner can use it: {advice}");
        directory.write("ecm.secret", SECRET, mode);
        secret_problem(&directory, &problem.replace("NAME", "secret"));
        directory.write("ecm.secret", SECRET, 0o600);
        directory.write("ecm.cookie", "monster", mode);
        cookie_problem(&directory, &problem.replace("NAME", "cookie"));
        directory.write("ecm.cookie", "monster", 0o600);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let directory = Directory::new();
    std::fs::remove_file(directory.path("ecm.secret")).unwrap();
    secret_problem(&directory, "ecm.secret can't be read: No such file or directory (os error 2)");
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let directory = Directory::new();
    std::fs::remove_file(directory.path("ecm.secret")).unwrap();
    mknodat(CWD, directory.path("ecm.secret"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    secret_problem(&directory, "ecm.secret is not a regular file: name one");
}

#[test]
fn a_secret_is_long_enough() {
    let directory = Directory::new();
    for empty in ["", "\n", "\r\n"] {
        directory.write("ecm.secret", empty, 0o600);
        secret_problem(&directory, "ecm.secret is empty");
    }
    let short = format!("{}\n", &SECRET[1..]);
    directory.write("ecm.secret", &short, 0o600);
    let advice = "openssl rand -hex 32 > ecm.secret";
    secret_problem(&directory, &format!("ecm.secret has 31 bytes, and a secret at least 32: {advice}"));
    directory.write("ecm.secret", &"x".repeat(4097), 0o600);
    secret_problem(&directory, "ecm.secret has more than 4096 bytes: is it the right file?");
}

#[test]
fn one_line_end_is_not_part_of_a_secret() {
    let directory = Directory::new();
    let secret = |text: &str| Secret::new(text.as_bytes()).unwrap();
    for (text, expected) in
        [("S", "S"), ("S\n", "S"), ("S\r\n", "S"), ("S\n\n", "S\n"), ("S ", "S "), (" S", " S")]
    {
        directory.write("ecm.secret", &text.replace('S', SECRET), 0o600);
        assert_eq!(settings(&directory).link.secret, secret(&expected.replace('S', SECRET)), "{text:?}");
    }
}

#[test]
fn a_cookie_is_a_line_of_at_most_255_characters() {
    let directory = Directory::new();
    for (text, expected) in [("monster", "monster"), ("monster \r\n", "monster"), ("mön ster\n", "mön ster")]
    {
        directory.write("ecm.cookie", text, 0o600);
        assert_eq!(settings(&directory).erlang_node.unwrap().cookie.expose(), expected);
    }
    for wrong in [" ", "two\nlines", &"x".repeat(256)] {
        directory.write("ecm.cookie", wrong, 0o600);
        let problem = "ecm.cookie has to hold 1 to 255 characters on one line, as the nodes' .erlang.cookie";
        cookie_problem(&directory, problem);
    }
}

#[test]
fn an_erlang_node_has_a_name() {
    let parts =
        Parts { tables: "[erlang_node]\nname = \"ecm\"\ncookie_file = \"ecm.cookie\"", ..Parts::default() };
    let problems = Directory::new().problems(&parts.text(), &ENVIRONMENT);
    let hint = "write it as \"ejabberd@host.example.org\"";
    assert_eq!(problems, [format!("13:8: name: \"ecm\" is not the name of an Erlang node: {hint}")]);
}

#[test]
fn neither_secret_nor_cookie_is_shown() {
    let shown = format!("{:?}", settings(&Directory::new()));
    assert!(!shown.contains(SECRET) && !shown.contains("monster"), "{shown}");
}
