//! How long the server takes for long stanzas of different shapes.

use std::time::Duration;

use anyhow::Result;

use crate::client::user::Transport;
use crate::compare::case::Case;
use crate::compare::figure::Unit;
use crate::compare::lab::Lab;
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::rounds;
use crate::compare::site::Site;
use crate::generator::latency;
use crate::generator::latency::Summary;
use crate::generator::solo::Solo;
use crate::measure::machine::Meter;

/// The comparison.
pub(crate) struct Shapes;

/// Bytes of what is in the messages: with the rest of them just below the limit of 262,144.
const BYTES: usize = 261_900;
/// Fewer would leave too little to measure processor time by.
const LEAST: u32 = 5;

/// A name, and what the body is made of, again and again.
const SHAPES: [(&str, &str); 6] = [
    ("text", "x"),
    ("entities", "&amp;"),
    ("elements", "<item-of-a-list/>"),
    ("attributes", "<item jid='someone@example.org' name='Somebody'/>"),
    ("namespaces", "<a xmlns='urn:example:number:one'><b xmlns='urn:example:number:two'/></a>"),
    ("texts", "<a>some words of text</a>"),
];

impl Shapes {
    fn seconds(lab: &Lab<'_>) -> u64 {
        lab.pick(1, 3)
    }

    fn measure(
        lab: &Lab<'_>,
        sites: &[Site],
        (name, part): (&str, &str),
        outcome: &mut CaseOutcome,
    ) -> Result<()> {
        let content = content(part);
        let mut users =
            sites.iter().map(|site| Solo::log_in(&site.members)).collect::<Result<Vec<Solo>>>()?;
        rounds::alternate(lab, name, outcome, |variant, trial| {
            Self::window(lab, &sites[variant], &mut users[variant], name, &content, trial)
        });
        Ok(())
    }

    fn window(
        lab: &Lab<'_>,
        site: &Site,
        user: &mut Solo,
        name: &str,
        content: &str,
        trial: &mut Trial,
    ) -> Result<()> {
        let jid = user.jid().to_owned();
        let message = |id: &str| {
            format!("<message xmlns='jabber:client' to='{jid}' type='chat' id='{id}'>{content}</message>")
        };
        user.exchange(message)?;
        let mut latencies = latency::histogram();
        let long = Duration::from_secs(Self::seconds(lab));
        let meter = Meter::start(site.server.pids())?;
        let mut count = 0;
        while count < LEAST || meter.elapsed() < long {
            latency::record(&mut latencies, user.exchange(message)?);
            count += 1;
        }
        let usage = meter.stop()?;
        trial.disturbed_by(usage.others);
        let latency = Summary::of(&latencies);
        trial.add(format!("{name}: time, median"), Unit::Milliseconds, latency.p50);
        trial.add(format!("{name}: time, maximum"), Unit::Milliseconds, latency.max);
        let cpu = usage.server * 1e6 / f64::from(count);
        trial.add(format!("{name}: CPU a stanza"), Unit::Microseconds, cpu);
        trial.keep(&format!("{name}: time"), &latency);
        Ok(())
    }
}

/// As many of the shape as fit.
fn content(part: &str) -> String {
    format!("<body>{}</body>", part.repeat(BYTES / part.len()))
}

impl Case for Shapes {
    fn name(&self) -> &'static str {
        "shapes"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        let shapes: Vec<String> = SHAPES.iter().map(|(name, part)| format!("{name} `{part}`")).collect();
        format!(
            "A user on TCP sends itself messages of nearly 262,144 bytes, one after the other for {} s, each with a \
             ping to the server behind it. Time: until the message and the answer have come back. The bodies \
             are repetitions of: {}.",
            Self::seconds(lab),
            shapes.join(", ")
        )
    }

    fn run(&mut self, lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()> {
        let sites = Site::start_all(lab, Transport::Tcp, 1)?;
        for shape in SHAPES {
            if let Err(error) = Self::measure(lab, &sites, shape, outcome) {
                outcome.lose(shape.0, &error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_all_shapes_are_long_and_within_the_limit() {
        for (name, part) in SHAPES {
            let length = content(part).len();
            assert!((261_800..262_000).contains(&length), "{name}: {length}");
        }
    }
}
