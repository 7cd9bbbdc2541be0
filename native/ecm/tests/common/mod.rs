//! Configurations in directories of their own, with the files that they name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code, reason = "no test binary uses all of it")]

pub(crate) mod control;
pub(crate) mod ecm;
pub(crate) mod node;

use megaphone_ecm::settings::{self, Environment, Problems, Settings};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// 20,000 descriptors a worker, whatever machine this is.
pub(crate) const ENVIRONMENT: Environment = Environment { descriptors: 20_000, workers: None };

/// 32 bytes.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A file of which lines can be replaced; its lines 3, 7, 11 and 12 are empty.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parts<'a> {
    pub(crate) root: &'a str,
    pub(crate) listener: &'a str,
    pub(crate) node: &'a str,
    pub(crate) tables: &'a str,
}

impl Parts<'_> {
    pub(crate) fn text(self) -> String {
        let Self { root, listener, node, tables } = self;
        let head = "name = \"ecm1\"\nsecret_file = \"ecm.secret\"";
        let first = "[[listeners]]\nlisten = \"0.0.0.0:5222\"\nfor = \"c2s\"";
        let nodes = "[[nodes]]\nname = \"ejabberd@a\"\naddress = \"192.0.2.1\"";
        [head, root, first, listener, nodes, node, tables].join("\n")
    }
}

pub(crate) struct Directory(TempDir);

impl Directory {
    /// With `ecm.secret` and `ecm.cookie`.
    pub(crate) fn new() -> Self {
        let directory = Self(TempDir::new().unwrap());
        directory.write("ecm.secret", &format!("{SECRET}\n"), 0o600);
        directory.write("ecm.cookie", "monster\n", 0o400);
        directory
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    pub(crate) fn load(&self, text: &str, environment: &Environment) -> Result<Settings, Problems> {
        settings::load(&self.write("ecm.toml", text, 0o644), environment)
    }

    /// What is wrong, without the directory's name.
    pub(crate) fn problems(&self, text: &str, environment: &Environment) -> Vec<String> {
        let shown = self.load(text, environment).unwrap_err().to_string();
        let directory = format!("{}/", self.0.path().display());
        let cut = |line: &str| line.replace(&directory, "").trim_start_matches("ecm.toml:").to_owned();
        shown.lines().map(cut).collect()
    }
}

pub(crate) fn load(text: &str) -> Result<Settings, Problems> {
    Directory::new().load(text, &ENVIRONMENT)
}

pub(crate) fn problems(text: &str) -> Vec<String> {
    Directory::new().problems(text, &ENVIRONMENT)
}

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
