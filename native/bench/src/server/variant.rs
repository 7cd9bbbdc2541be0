//! What is compared: stock ejabberd, ejabberd with Megaphone, and Megaphone without an option. They differ in the
//! names of the listeners' modules, in the listeners' options and in the code path.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where Debian's Erlang libraries are.
pub(crate) const DEBIAN_LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
const LIBRARIES: &str = "_build/default/lib";
/// The variant without Megaphone.
pub(crate) const STOCK: &str = "stock";
/// The variant with Megaphone.
pub(crate) const MEGAPHONE: &str = "megaphone";
/// Megaphone whose sessions hibernate but do not pack: what packing saves and costs.
pub(crate) const UNPACKED: &str = "unpacked";
/// Megaphone behind an external connection manager, which has the clients and carries them over one link.
pub(crate) const ECM: &str = "ecm";

/// A server to measure.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    /// The name in reports.
    pub(crate) name: String,
    /// The `module` of the XMPP listener.
    pub(crate) c2s_module: &'static str,
    /// The `module` of the HTTP listener.
    pub(crate) http_module: &'static str,
    /// An option of both listeners besides those that all variants have, as `name: value`.
    pub(crate) option: Option<&'static str>,
    /// Directories of compiled code besides ejabberd's own.
    pub(crate) code_path: Vec<PathBuf>,
    /// The program that has the clients in place of the node.
    pub(crate) ecm: Option<PathBuf>,
}

impl Variant {
    /// The variant called `name`, one of `stock`, `megaphone`, `unpacked` and `ecm`.
    ///
    /// # Errors
    /// When there is no such variant, or Megaphone is not built; the error says how to build it.
    pub(crate) fn named(name: &str) -> Result<Self> {
        match name {
            STOCK => Ok(Self {
                name: name.to_owned(),
                c2s_module: "ejabberd_c2s",
                http_module: "ejabberd_http",
                option: None,
                code_path: Vec::new(),
                ecm: None,
            }),
            MEGAPHONE => megaphone(Path::new(LIBRARIES)),
            UNPACKED => {
                let packed = megaphone(Path::new(LIBRARIES))?;
                Ok(Self { name: name.to_owned(), option: Some("pack: off"), ..packed })
            }
            ECM => {
                let direct = megaphone(Path::new(LIBRARIES))?;
                Ok(Self { name: name.to_owned(), ecm: Some(ecm_program()?), ..direct })
            }
            other => bail!("no variant is called {other}; there are stock, megaphone, unpacked and ecm"),
        }
    }

    /// The two listeners' modules and the option, for people.
    pub(crate) fn listeners(&self) -> String {
        let with = self.option.map_or_else(String::new, |option| format!(", with `{option}`"));
        let behind = if self.ecm.is_some() { ", behind megaphone-ecm" } else { "" };
        format!("listeners {} and {}{with}{behind}", self.c2s_module, self.http_module)
    }
}

/// Beside this program, where both are built.
fn ecm_program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("megaphone-ecm");
    if !program.exists() {
        bail!("{} is not built; run `cargo build --release --package megaphone-ecm`", program.display());
    }
    Ok(program)
}

fn megaphone(libraries: &Path) -> Result<Variant> {
    let sockets = libraries.join("megaphone");
    let listeners = libraries.join("megaphone_ejabberd/ebin");
    let has_nif = fs::read_dir(sockets.join("priv"))
        .is_ok_and(|files| files.flatten().any(|file| file.path().extension().is_some_and(|e| e == "so")));
    if !listeners.join("megaphone_http.beam").exists() || !has_nif {
        bail!(
            "Megaphone is not built: {} lacks its modules or its NIF; run `rebar3 compile`",
            libraries.display()
        );
    }
    Ok(Variant {
        name: MEGAPHONE.to_owned(),
        c2s_module: "megaphone_c2s",
        http_module: "megaphone_http",
        option: None,
        code_path: vec![std::path::absolute(sockets.join("ebin"))?, std::path::absolute(listeners)?],
        ecm: None,
    })
}

/// Where ejabberd's own modules are.
///
/// # Errors
/// When no ejabberd is installed.
pub(crate) fn ejabberd_ebin() -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(DEBIAN_LIBRARIES)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("ejabberd-"))
        })
        .map(|path| path.join("ebin"))
        .filter(|ebin| ebin.join("ejabberd.app").exists())
        .collect();
    found.sort();
    found
        .into_iter()
        .next()
        .ok_or_else(|| anyhow::anyhow!("no ejabberd under {DEBIAN_LIBRARIES}: apt install ejabberd"))
}

/// What the Erlang expression `of_text`, whose value is text, comes to.
///
/// # Errors
/// When no Erlang is installed.
pub(crate) fn ask_erlang(of_text: &str) -> Result<String> {
    let program = format!("io:put_chars({of_text}), halt().");
    let output = Command::new("erl").args(["-noshell", "-eval", &program]).output().context("running erl")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version in ejabberd.app.
///
/// # Errors
/// As [`ejabberd_ebin`], or when the file says none.
pub(crate) fn ejabberd_version() -> Result<String> {
    let app = fs::read_to_string(ejabberd_ebin()?.join("ejabberd.app"))?;
    let version = app.split("{vsn,").nth(1).and_then(|rest| rest.split('"').nth(1));
    version.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("ejabberd.app has no version"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A library of empty files, removed when dropped.
    struct Library(PathBuf);

    impl Library {
        fn with(name: &str, files: &[&str]) -> Self {
            let path = std::env::temp_dir().join(format!("megaphone-bench-{name}-{}", std::process::id()));
            for file in files {
                let file = path.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "").unwrap();
            }
            Self(path)
        }
    }

    impl Drop for Library {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const LISTENERS: &str = "megaphone_ejabberd/ebin/megaphone_http.beam";
    const NIF: &str = "megaphone/priv/megaphone_nif.so";

    #[test]
    fn megaphone_is_compared_where_its_listeners_and_its_nif_are_built() {
        let library = Library::with("built", &[LISTENERS, NIF]);
        let variant = megaphone(&library.0).unwrap();
        assert_eq!((variant.c2s_module, variant.http_module), ("megaphone_c2s", "megaphone_http"));
        let path = ["megaphone/ebin", "megaphone_ejabberd/ebin"].map(|part| library.0.join(part));
        assert_eq!(variant.code_path, path);
    }

    #[test]
    fn a_library_that_is_not_built_is_no_variant() {
        for (name, file) in [("without-nif", LISTENERS), ("without-listeners", NIF)] {
            let library = Library::with(name, &[file]);
            assert!(megaphone(&library.0).is_err(), "{name}");
        }
    }

    #[test]
    fn an_option_is_named_with_the_listeners() {
        let stock = Variant::named(STOCK).unwrap();
        assert_eq!(stock.listeners(), "listeners ejabberd_c2s and ejabberd_http");
        let with = Variant { option: Some("pack: off"), ..stock };
        assert_eq!(with.listeners(), "listeners ejabberd_c2s and ejabberd_http, with `pack: off`");
    }
}
