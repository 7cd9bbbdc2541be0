//! An XMPP session from the client's side, whatever carries it: authentication, resource binding, session,
//! presence (RFC 6120, RFC 6121), then messages and pings (XEP-0199).

use std::io::Write;

use crate::client::sasl::{Auth, Scram, plain};
use crate::client::scan::{Element, Token};
use crate::client::{Failure, News, Random};

/// What all users of a run have in common.
#[derive(Debug, Clone)]
pub(crate) struct Accounts {
    /// The vhost they log in to.
    pub(crate) domain: String,
    pub(crate) auth: Auth,
    /// Their names are this followed by their number.
    pub(crate) prefix: String,
    pub(crate) password: String,
    /// Whether they announce their capabilities (XEP-0115), as real clients do. The server keeps those of each contact
    /// in the session.
    pub(crate) caps: bool,
}

/// A user's session. [`Session::handle`] takes what comes and says what to send.
#[derive(Debug, Default)]
pub(crate) struct Session {
    stage: Stage,
    /// The full JID as the server wrote it, empty before it is bound.
    jid: Box<str>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Connecting,
    Opening,
    Authenticating(Option<Box<Scram>>),
    Reopening,
    Binding {
        needs_session: bool,
    },
    StartingSession,
    Announcing,
    Online,
    Leaving,
    Left,
}

/// What to send next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nothing,
    /// Open the stream, or open it again.
    Open,
    /// The element that was written to the buffer.
    Element,
    /// Close the stream.
    Close,
}

impl Session {
    /// Whether the stream has been opened.
    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.stage, Stage::Connecting)
    }

    /// Whether the stream has been opened and the server has not said yet how to authenticate.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::Opening)
    }

    /// Whether the stream has been closed in good order.
    pub(crate) fn has_left(&self) -> bool {
        matches!(self.stage, Stage::Left)
    }

    /// The user's full JID.
    pub(crate) fn jid(&self) -> &str {
        &self.jid
    }

    /// The name of the stage, for reports.
    pub(crate) fn stage(&self) -> &'static str {
        match self.stage {
            Stage::Connecting => "connect",
            Stage::Opening => "stream",
            Stage::Reopening => "stream restart",
            Stage::Authenticating(_) => "authenticate",
            Stage::Binding { .. } => "bind",
            Stage::StartingSession => "session",
            Stage::Announcing => "presence",
            Stage::Online => "online",
            Stage::Leaving | Stage::Left => "log out",
        }
    }

    /// The transport is there.
    pub(crate) fn start(&mut self) -> Reply {
        self.stage = Stage::Opening;
        Reply::Open
    }

    /// Begins to close the stream; [`News::LoggedOut`] follows.
    pub(crate) fn leave(&mut self) -> Reply {
        self.stage = Stage::Leaving;
        Reply::Close
    }

    /// Takes what the server sent. An element to send is written to `out`, which is empty before.
    ///
    /// # Errors
    /// When the server refuses something or breaks the protocol; the session is then of no more use.
    pub(crate) fn handle(
        &mut self,
        token: &Token<'_>,
        user: &User<'_>,
        random: &mut Random,
        out: &mut Vec<u8>,
        news: &mut Vec<News>,
    ) -> Result<Reply, Failure> {
        match token {
            Token::Header => Ok(Reply::Nothing),
            Token::End if matches!(self.stage, Stage::Leaving | Stage::Left) => {
                self.stage = Stage::Left;
                news.push(News::LoggedOut);
                Ok(Reply::Nothing)
            }
            Token::End => Err(Failure::Closed),
            Token::Element(element) if element.name() == "error" => {
                Err(Failure::Rejected(condition(element)))
            }
            Token::Element(element) => self.element(element, user, random, out, news),
        }
    }

    fn element(
        &mut self,
        element: &Element<'_>,
        user: &User<'_>,
        random: &mut Random,
        out: &mut Vec<u8>,
        news: &mut Vec<News>,
    ) -> Result<Reply, Failure> {
        match (&mut self.stage, element.name()) {
            (Stage::Opening, "features") => self.authenticate(element, user, random, out),
            (Stage::Authenticating(Some(scram)), "challenge") => {
                let answer = scram.answer(element.text(), &user.accounts.password)?;
                write(out, format_args!("<response xmlns='{SASL}'>{answer}</response>"))
            }
            (Stage::Authenticating(scram), "success") => {
                if let Some(scram) = scram {
                    scram.verify(element.text())?;
                }
                self.stage = Stage::Reopening;
                Ok(Reply::Open)
            }
            (Stage::Authenticating(_), "failure") => Err(Failure::Rejected(condition(element))),
            (Stage::Reopening, "features") => {
                self.stage = Stage::Binding { needs_session: element.child("session").is_some() };
                write(
                    out,
                    format_args!(
                        "<iq xmlns='jabber:client' type='set' id='bind'><bind xmlns='{BIND}'/></iq>"
                    ),
                )
            }
            (Stage::Binding { needs_session }, "iq") => {
                let needs_session = *needs_session;
                self.jid = bound(element)?;
                if !needs_session {
                    return self.announce(user, out);
                }
                self.stage = Stage::StartingSession;
                write(
                    out,
                    format_args!(
                        "<iq xmlns='jabber:client' type='set' id='session'><session xmlns='{SESSION}'/></iq>"
                    ),
                )
            }
            (Stage::StartingSession, "iq") => match element.attribute("type") {
                Some("result") => self.announce(user, out),
                _ => Err(Failure::Rejected(condition(element))),
            },
            (Stage::Announcing, "presence") if element.attribute("from") == Some(&self.jid) => {
                self.stage = Stage::Online;
                news.push(News::Online);
                Ok(Reply::Nothing)
            }
            // A server asks the first to announce capabilities that it does not know, while others log in.
            (Stage::Announcing | Stage::Online, "iq") if is_query(element) => capabilities(element, out),
            (Stage::Online, _) => online(element, out, news),
            // Presence of others, messages and requests while logging in or out need no answer here.
            _ => Ok(Reply::Nothing),
        }
    }

    fn authenticate(
        &mut self,
        features: &Element<'_>,
        user: &User<'_>,
        random: &mut Random,
        out: &mut Vec<u8>,
    ) -> Result<Reply, Failure> {
        let mechanism = user.accounts.auth.mechanism();
        let is_offered = features
            .child("mechanisms")
            .is_some_and(|offered| offered.children().any(|offer| offer.text() == mechanism));
        if !is_offered {
            return Err(Failure::Rejected(format!("{mechanism} is not offered")));
        }
        let (scram, response) = match user.accounts.auth {
            Auth::Anonymous => (None, "=".to_owned()),
            Auth::Plain => (None, plain(&user.name(), &user.accounts.password)),
            Auth::ScramSha1 => {
                let nonce = format!("{:016x}", random.next());
                let (scram, response) = Scram::start(&user.name(), &nonce);
                (Some(Box::new(scram)), response)
            }
        };
        self.stage = Stage::Authenticating(scram);
        write(out, format_args!("<auth xmlns='{SASL}' mechanism='{mechanism}'>{response}</auth>"))
    }

    fn announce(&mut self, user: &User<'_>, out: &mut Vec<u8>) -> Result<Reply, Failure> {
        self.stage = Stage::Announcing;
        if !user.accounts.caps {
            return write(out, format_args!("<presence xmlns='jabber:client'/>"));
        }
        write(
            out,
            format_args!(
                "<presence xmlns='jabber:client'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' \
                 node='{CAPS_NODE}' ver='{CAPS_VER}'/></presence>"
            ),
        )
    }
}

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const CAPS_NODE: &str = "https://example.org/client";
/// The hash of what [`capabilities`] answers (XEP-0115, section 5.1).
const CAPS_VER: &str = "UILP9LTA6SmJFFUVN92ufbJ+4dc=";

/// Who a session belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User<'a> {
    pub(crate) accounts: &'a Accounts,
    pub(crate) number: u32,
}

impl User<'_> {
    fn name(&self) -> String {
        format!("{}{}", self.accounts.prefix, self.number)
    }
}

/// Writes a chat message to the JID `to`; `stamp` comes back in [`News::Message`].
pub(crate) fn message(out: &mut Vec<u8>, to: &str, stamp: u64, body: &str) -> Result<Reply, Failure> {
    write(
        out,
        format_args!(
            "<message xmlns='jabber:client' to='{to}' type='chat' id='m{stamp}'><body>{body}</body></message>"
        ),
    )
}

/// Writes a ping to the server; `stamp` comes back in [`News::Pong`].
pub(crate) fn ping(out: &mut Vec<u8>, stamp: u64) -> Result<Reply, Failure> {
    write(
        out,
        format_args!("<iq xmlns='jabber:client' type='get' id='p{stamp}'><ping xmlns='urn:xmpp:ping'/></iq>"),
    )
}

fn online(element: &Element<'_>, out: &mut Vec<u8>, news: &mut Vec<News>) -> Result<Reply, Failure> {
    let id = element.attribute("id").unwrap_or_default();
    let stamp = |mark: char| id.strip_prefix(mark).and_then(|stamp| stamp.parse().ok());
    match (element.name(), element.attribute("type")) {
        ("message", Some("error")) => news.push(News::Refused(condition_of_error(element))),
        ("message", _) => news.extend(stamp('m').map(News::Message)),
        ("iq", Some("result")) => news.extend(stamp('p').map(News::Pong)),
        ("iq", Some("error")) => news.push(News::Refused(condition_of_error(element))),
        ("iq", Some("get" | "set")) => {
            let to = element.attribute("from").unwrap_or_default();
            return write(out, format_args!("<iq xmlns='jabber:client' type='result' to='{to}' id='{id}'/>"));
        }
        _ => {}
    }
    Ok(Reply::Nothing)
}

fn is_query(iq: &Element<'_>) -> bool {
    iq.attribute("type") == Some("get") && iq.child("query").is_some()
}

/// The answer to a question for the client's capabilities (XEP-0030, XEP-0115).
fn capabilities(iq: &Element<'_>, out: &mut Vec<u8>) -> Result<Reply, Failure> {
    let [to, id] = ["from", "id"].map(|name| iq.attribute(name).unwrap_or_default());
    write(
        out,
        format_args!(
            "<iq xmlns='jabber:client' type='result' to='{to}' id='{id}'><query xmlns='{DISCO_INFO}' \
             node='{CAPS_NODE}#{CAPS_VER}'><identity category='client' type='pc'/><feature var='{DISCO_INFO}'/>\
             </query></iq>"
        ),
    )
}

fn bound(iq: &Element<'_>) -> Result<Box<str>, Failure> {
    if iq.attribute("type") != Some("result") {
        return Err(Failure::Rejected(condition_of_error(iq)));
    }
    let jid = iq.child("bind").and_then(|bind| bind.child("jid"));
    jid.map(|jid| jid.text().into()).ok_or(Failure::Malformed("bind result"))
}

fn condition_of_error(stanza: &Element<'_>) -> String {
    stanza.child("error").map_or_else(|| "no reason".to_owned(), |error| condition(&error))
}

/// The name of the first child: how XMPP's stream, stanza and SASL errors say what is wrong.
fn condition(error: &Element<'_>) -> String {
    error.children().next().map_or_else(|| "no reason".to_owned(), |child| child.name().to_owned())
}

fn write(out: &mut Vec<u8>, element: std::fmt::Arguments<'_>) -> Result<Reply, Failure> {
    out.write_fmt(element).map_err(|error| Failure::Broken(error.kind()))?;
    Ok(Reply::Element)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Peer {
        session: Session,
        accounts: Accounts,
        random: Random,
        news: Vec<News>,
    }

    impl Peer {
        fn new(auth: Auth) -> Self {
            let accounts = Accounts {
                domain: "localhost".into(),
                auth,
                prefix: "user".into(),
                password: "secret".into(),
                caps: false,
            };
            let mut session = Session::default();
            assert_eq!(session.start(), Reply::Open);
            Self { session, accounts, random: Random::new(1), news: Vec::new() }
        }

        fn says(&mut self, xml: &str) -> Result<(Reply, String), Failure> {
            let token = Token::Element(Element::whole(xml.as_bytes()).unwrap());
            let user = User { accounts: &self.accounts, number: 7 };
            let mut out = Vec::new();
            let reply = self.session.handle(&token, &user, &mut self.random, &mut out, &mut self.news)?;
            Ok((reply, String::from_utf8(out).unwrap()))
        }
    }

    const MECHANISMS: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
        <mechanism>PLAIN</mechanism><mechanism>ANONYMOUS</mechanism></mechanisms></stream:features>";
    const BOUND: &str = "<iq type='result' id='bind'><bind><jid>a@localhost/r</jid></bind></iq>";

    #[test]
    fn a_login_goes_through_all_its_stages() {
        let mut peer = Peer::new(Auth::Plain);
        let (_, auth) = peer.says(MECHANISMS).unwrap();
        assert!(auth.contains("mechanism='PLAIN'>AHVzZXI3AHNlY3JldA=="), "{auth}");
        assert_eq!(peer.says("<success/>").unwrap().0, Reply::Open);
        let (_, bind) = peer.says("<stream:features><bind/><session/></stream:features>").unwrap();
        assert!(bind.contains("xmpp-bind"), "{bind}");
        let (_, session) = peer.says(BOUND).unwrap();
        assert!(session.contains("xmpp-session"), "{session}");
        let (_, presence) = peer.says("<iq type='result' id='session'/>").unwrap();
        assert!(presence.starts_with("<presence"), "{presence}");
        peer.says("<presence from='other@localhost/r'/>").unwrap();
        assert!(peer.news.is_empty());
        peer.says("<presence from='a@localhost/r'/>").unwrap();
        assert_eq!(peer.news, [News::Online]);
        assert_eq!(peer.session.jid(), "a@localhost/r");
    }

    #[test]
    fn a_session_that_is_not_offered_is_not_asked_for() {
        let mut peer = Peer::new(Auth::Anonymous);
        peer.says(MECHANISMS).unwrap();
        peer.says("<success/>").unwrap();
        peer.says("<stream:features><bind/></stream:features>").unwrap();
        assert!(peer.says(BOUND).unwrap().1.starts_with("<presence"));
    }

    #[test]
    fn refusals_are_failures_with_their_condition() {
        let mut peer = Peer::new(Auth::ScramSha1);
        let refused = Failure::Rejected("SCRAM-SHA-1 is not offered".into());
        assert_eq!(peer.says(MECHANISMS), Err(refused));
        let mut peer = Peer::new(Auth::Plain);
        peer.says(MECHANISMS).unwrap();
        let refused = Failure::Rejected("not-authorized".into());
        assert_eq!(peer.says("<failure><not-authorized/></failure>"), Err(refused));
        let refused = Failure::Rejected("system-shutdown".into());
        assert_eq!(peer.says("<stream:error><system-shutdown/></stream:error>"), Err(refused));
    }

    #[test]
    fn stamps_come_back_as_news_and_requests_are_answered() {
        let mut peer = Peer::new(Auth::Plain);
        peer.session.stage = Stage::Online;
        peer.says("<message id='m12'><body/></message>").unwrap();
        peer.says("<iq type='result' id='p13'/>").unwrap();
        peer.says("<message type='error' id='m12'><error><service-unavailable/></error></message>").unwrap();
        let refused = News::Refused("service-unavailable".into());
        assert_eq!(peer.news, [News::Message(12), News::Pong(13), refused]);
        let (_, answer) = peer.says("<iq type='get' from='s' id='9'/>").unwrap();
        assert!(answer.contains("type='result' to='s' id='9'"), "{answer}");
    }

    #[test]
    fn capabilities_are_announced_where_asked_for_and_their_hash_is_that_of_the_answer() {
        let mut peer = Peer::new(Auth::Plain);
        peer.session.stage = Stage::Binding { needs_session: false };
        assert!(!peer.says(BOUND).unwrap().1.contains("caps"));
        peer.accounts.caps = true;
        peer.session.stage = Stage::Binding { needs_session: false };
        let (_, presence) = peer.says(BOUND).unwrap();
        assert!(presence.contains(&format!("ver='{CAPS_VER}'")), "{presence}");
        let (_, answer) = peer.says("<iq type='get' from='s' id='9'><query/></iq>").unwrap();
        assert!(answer.contains("type='result' to='s' id='9'"), "{answer}");
        let identity = "<identity category='client' type='pc'/>";
        assert!(answer.contains(&format!("{identity}<feature var='{DISCO_INFO}'/>")), "{answer}");
        let hash = <sha1::Sha1 as sha1::Digest>::digest(format!("client/pc//<{DISCO_INFO}<"));
        let hash = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash);
        assert_eq!(hash, CAPS_VER);
    }
}
