//! The hidden Erlang node that the ECM can be as well: `[erlang_node]`.

use super::files::read_private;
use super::section::Section;
use super::value;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use toml::Spanned;

/// A hidden Erlang node.
#[derive(Clone, Debug)]
pub struct ErlangNode {
    /// Its name.
    pub name: Box<str>,
    /// The cookie that it shares with others.
    pub cookie: Cookie,
    /// Where other nodes connect; none for a port that the kernel chooses.
    pub listen: Option<SocketAddr>,
}

/// What Erlang nodes that may connect have in common. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(Box<str>);

impl Cookie {
    /// Its text, at most 255 characters.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie")
    }
}

/// None after a problem. `base` is where relative paths begin.
pub(super) fn read(mut section: Section<'_>, base: &Path) -> Option<ErlangNode> {
    let name = section.required("name", "\"ecm@host.example.org\"", value::node_name);
    let file = section.required("cookie_file", "\"/etc/megaphone/cookie\"", value::text);
    let cookie = file.and_then(|file| {
        let cookie = cookie(&base.join(&**file.get_ref()));
        cookie.map_err(|message| section.report.add(file.span(), format!("cookie_file: {message}"))).ok()
    });
    let listen = section.given("listen", value::socket_address).map(Spanned::into_inner);
    section.finish();
    Some(ErlangNode { name: name?.into_inner(), cookie: cookie?, listen })
}

/// An atom's text. Spaces and line ends behind it are not part of it, as for Erlang.
fn cookie(path: &Path) -> Result<Cookie, String> {
    let text = String::from_utf8(read_private(path)?).unwrap_or_default();
    let text = text.trim_end_matches([' ', '\r', '\n']);
    let is_cookie = (1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let shown = path.display();
    is_cookie.then(|| Cookie(text.into())).ok_or_else(|| {
        format!("{shown} has to hold 1 to 255 characters on one line, as the nodes' .erlang.cookie")
    })
}
