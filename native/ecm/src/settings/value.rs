//! Single values. What is wrong with one is said together with what would be right.

use megaphone_core::Network;
use megaphone_proto::link::MAX_NAME;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::de::DeValue;

pub(super) type Read<T> = Result<T, String>;

/// What a value is, with an article.
pub(super) fn kind(value: &DeValue<'_>) -> String {
    let name = value.type_str();
    let article = if name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {name}")
}

pub(super) fn text(value: &DeValue<'_>) -> Read<Box<str>> {
    value.as_str().map(Into::into).ok_or_else(|| format!("expected a string, found {}", kind(value)))
}

pub(super) fn boolean(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or_else(|| format!("expected true or false, found {}", kind(value)))
}

/// An integer in these bounds.
pub(super) fn integer<T: TryFrom<i64>>(bounds: RangeInclusive<i64>) -> impl FnOnce(&DeValue<'_>) -> Read<T> {
    move |value| {
        let (least, most) = (bounds.start(), bounds.end());
        let wanted = format!("expected an integer from {least} to {most}");
        let integer = value.as_integer().ok_or_else(|| format!("{wanted}, found {}", kind(value)))?;
        i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| bounds.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("{wanted}, found {integer}"))
    }
}

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000)];

/// A duration with its unit, such as `30 s`, in these bounds (in milliseconds).
pub(super) fn duration(bounds: RangeInclusive<u64>) -> impl FnOnce(&DeValue<'_>) -> Read<Duration> {
    move |value| {
        let wanted = "expected a duration such as \"200 ms\", \"30 s\", \"5 min\" or \"1 h\"";
        let text = value.as_str().ok_or_else(|| format!("{wanted}, found {}", kind(value)))?;
        let millis = milliseconds(text).ok_or_else(|| format!("{wanted}, found {text:?}"))?;
        if !bounds.contains(&millis) {
            let (least, most) = (show(*bounds.start()), show(*bounds.end()));
            return Err(format!("expected a duration from {least} to {most}, found {text:?}"));
        }
        Ok(Duration::from_millis(millis))
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn show(millis: u64) -> String {
    let unit = UNITS.into_iter().rev().find(|(_, factor)| millis.is_multiple_of(*factor));
    unit.map_or_else(String::new, |(name, factor)| format!("\"{} {name}\"", millis / factor))
}

/// An address with a port, such as `127.0.0.1:5222` or `[::1]:5222`.
pub(super) fn socket_address(value: &DeValue<'_>) -> Read<SocketAddr> {
    let text = text(value)?;
    let address: SocketAddr = text.parse().map_err(|_| {
        format!("{text:?} is not an IP address with a port: write it as \"0.0.0.0:5222\" or \"[::]:5222\"")
    })?;
    if address.port() == 0 {
        return Err(format!("{text:?} has port 0: choose one from 1 to 65535"));
    }
    if address.ip() != address.ip().to_canonical() {
        let short = SocketAddr::new(address.ip().to_canonical(), address.port());
        return Err(format!("{text:?} is an IPv4 address in the form of IPv6: write it as \"{short}\""));
    }
    Ok(address)
}

/// A list of networks; each with its first address as it was written.
pub(super) fn networks(value: &DeValue<'_>) -> Read<Vec<(IpAddr, Network)>> {
    let list = value.as_array().ok_or_else(|| {
        format!("expected a list of networks such as [\"10.0.0.0/8\", \"fd00::/8\"], found {}", kind(value))
    })?;
    if list.is_empty() {
        return Err(
            "the list is empty, so nobody could connect: name the proxies, or leave the key out".into()
        );
    }
    list.iter().map(|item| network(item.get_ref())).collect()
}

fn network(value: &DeValue<'_>) -> Read<(IpAddr, Network)> {
    let text = text(value)?;
    let (address, length) = text.split_once('/').map_or((&*text, None), |(ip, length)| (ip, Some(length)));
    let parsed = address.parse::<IpAddr>().ok().and_then(|ip| {
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Some(whole), |length| length.parse().ok())?;
        Some((ip, Network::new(ip, length)?))
    });
    parsed.ok_or_else(|| {
        format!("{text:?} is not a network: write it as \"10.0.0.0/8\", \"fd00::/8\" or \"10.0.0.1\"")
    })
}

/// A name that a link can carry.
pub(super) fn name(value: &DeValue<'_>) -> Read<Box<str>> {
    let text = text(value)?;
    let is_name = (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
    if is_name { Ok(text) } else { Err(format!("expected 1 to {MAX_NAME} bytes without control characters")) }
}

/// The name of an Erlang node.
pub(super) fn node_name(value: &DeValue<'_>) -> Read<Box<str>> {
    let text = name(value)?;
    let is_part = |part: &str| !part.is_empty() && !part.contains(|c: char| c == '@' || c.is_whitespace());
    let is_name = text.split_once('@').is_some_and(|(name, host)| is_part(name) && is_part(host));
    is_name.then(|| text.clone()).ok_or_else(|| {
        format!("{text:?} is not the name of an Erlang node: write it as \"ejabberd@host.example.org\"")
    })
}
