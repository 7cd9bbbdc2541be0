//! What the link protocol needs: the name, the secret, `[link]`.

use super::files::read_private;
use super::section::Section;
use super::value::{self, integer, name};
use megaphone_proto::link::{Config, ConfigError, Secret};
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

const SECOND: u64 = 1000;

/// None after a problem with the name or the secret. `base` is where relative paths begin.
pub(super) fn read(root: &mut Section<'_>, base: &Path) -> Option<Config> {
    let name = root.required("name", "\"ecm1\"", name);
    let secret = secret(root, base);
    let is_complete = name.is_some() && secret.is_some();
    // `[link]` is read with stand-ins as well: what is wrong there is to be known too.
    let secret = secret.or_else(|| Secret::new(&[0; Secret::LEAST]).ok())?;
    let config = Config::new(name.as_ref().map_or("ecm", |name| name.get_ref()), secret);
    let config = match root.table("link", "[link]") {
        Some(section) => limits(section, config),
        None => config,
    };
    is_complete.then_some(config)
}

fn secret(root: &mut Section<'_>, base: &Path) -> Option<Secret> {
    let file = root.required("secret_file", "\"/etc/megaphone/ecm.secret\"", value::text)?;
    let path = base.join(&**file.get_ref());
    let secret = read_private(&path).and_then(|bytes| {
        let length = bytes.len();
        Secret::new(&bytes).map_err(|_| {
            let (least, shown) = (Secret::LEAST, path.display());
            format!(
                "{shown} has {length} bytes, and a secret at least {least}: openssl rand -hex 32 > {shown}"
            )
        })
    });
    secret.map_err(|message| root.report.add(file.span(), format!("secret_file: {message}"))).ok()
}

fn limits(mut section: Section<'_>, default: Config) -> Config {
    let mut time = |key, default: Duration, bounds| section.or(key, default, value::duration(bounds));
    let handshake_timeout = time("handshake_timeout", default.handshake_timeout, SECOND..=60 * SECOND);
    let resume_timeout = time("resume_timeout", default.resume_timeout, SECOND..=3600 * SECOND);
    let ack_delay = time("ack_delay", default.ack_delay, 1..=5 * SECOND);
    let ping = section.given("ping_interval", value::duration(SECOND..=600 * SECOND));
    let silence = section.given("silence_timeout", value::duration(SECOND..=600 * SECOND));
    let resend = section.given("resend_bytes", integer(4096..=1 << 30));
    let config = Config {
        handshake_timeout,
        resume_timeout,
        ack_delay,
        ping_interval: ping.as_ref().map_or(default.ping_interval, |ping| *ping.get_ref()),
        silence_timeout: silence.as_ref().map_or(default.silence_timeout, |silence| *silence.get_ref()),
        resend_bytes: resend.as_ref().map_or(default.resend_bytes, |bytes| *bytes.get_ref()),
        unsent_bytes: section.or("unsent_bytes", default.unsent_bytes, integer(1024..=1 << 30)),
        max_payload: section.or("max_payload", default.max_payload, integer(1024..=65_535)),
        initial_credit: section.or("initial_credit", default.initial_credit, integer(1024..=0x7fff_ffff)),
        max_streams: section.or("max_streams", default.max_streams, integer(1..=1 << 24)),
        ..default
    };
    check_silence(&section, &config, silence.or(ping));
    check(&section, &config, resend);
    section.finish();
    config
}

/// An answer needs time.
fn check_silence(section: &Section<'_>, config: &Config, given: Option<Spanned<Duration>>) {
    if config.silence_timeout <= config.ping_interval {
        let span = given.map_or(section.span(), |given| given.span());
        section.report.add(span, "silence_timeout has to be above ping_interval: three times it is usual");
    }
}

/// Bounds that settings have together; those of single ones are above.
fn check(section: &Section<'_>, config: &Config, resend: Option<Spanned<usize>>) {
    let Err(error) = config.check() else { return };
    let span =
        resend.filter(|_| error == ConfigError::ResendBytes).map_or(section.span(), |bytes| bytes.span());
    section.report.add(span, error.to_string());
}
