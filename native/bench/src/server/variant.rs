//! What is compared: stock ejabberd and ejabberd with Megaphone, which differ in the names of the listeners'
//! modules and in the code path.

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

/// A server to measure.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    /// The name in reports.
    pub(crate) name: String,
    /// The `module` of the XMPP listener.
    pub(crate) c2s_module: &'static str,
    /// The `module` of the HTTP listener.
    pub(crate) http_module: &'static str,
    /// Directories of compiled code besides ejabberd's own.
    pub(crate) code_path: Vec<PathBuf>,
}

impl Variant {
    /// The variant called `name`, `stock` or `megaphone`.
    ///
    /// # Errors
    /// When there is no such variant, or Megaphone is not built; the error says how to build it.
    pub(crate) fn named(name: &str) -> Result<Self> {
        match name {
            STOCK => Ok(Self {
                name: name.to_owned(),
                c2s_module: "ejabberd_c2s",
                http_module: "ejabberd_http",
                code_path: Vec::new(),
            }),
            MEGAPHONE => megaphone(Path::new(LIBRARIES)),
            other => bail!("no variant is called {other}; there are stock and megaphone"),
        }
    }
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
        code_path: vec![std::path::absolute(sockets.join("ebin"))?, std::path::absolute(listeners)?],
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

    #[test]
    fn native_xmpp_is_compared_where_it_is_built() {
        let http = ["ebin/megaphone_http.beam", "priv/megaphone_nif.so"];
        let without = Library::with("http", &http);
        let variant = megaphone(&without.0).unwrap();
        assert_eq!((variant.c2s_module, variant.http_module), ("ejabberd_c2s", "megaphone_http"));
        let all = Library::with("c2s", &[http[0], http[1], "ebin/megaphone_c2s.beam"]);
        assert_eq!(megaphone(&all.0).unwrap().c2s_module, "megaphone_c2s");
    }

    #[test]
    fn a_library_that_is_not_built_is_no_variant() {
        let library = Library::with("bare", &["ebin/megaphone_http.beam"]);
        assert!(megaphone(&library.0).is_err());
    }
}
