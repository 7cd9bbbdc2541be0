//! Messages between users at a fixed rate: how late they arrive, and what they cost the server.

use std::time::Duration;

use anyhow::Result;

use crate::client::user::Transport;
use crate::compare::Case;
use crate::compare::flow::{self, Plan};
use crate::compare::lab::{Lab, TRANSPORTS};
use crate::compare::outcome::Trial;
use crate::generator::orders::{Kind, Rate};
use crate::server::variant::Variant;

/// The comparison.
pub(crate) struct Chat;

/// Forty characters, about what people write.
pub(crate) const BODY: &str = "It is forty characters that people write";

impl Chat {
    fn users(lab: &Lab<'_>) -> usize {
        lab.options.users.unwrap_or(lab.pick(500, 2000))
    }

    fn measure_transport(
        lab: &Lab<'_>,
        variant: &Variant,
        transport: Transport,
        trial: &mut Trial,
    ) -> Result<()> {
        let users = Self::users(lab);
        let rate = lab.options.rate.unwrap_or_else(|| default_rate(transport));
        let plan = Plan {
            kind: Kind::Chat,
            rate: Rate::Fixed(rate),
            body: BODY,
            warm: Duration::from_secs(2),
            long: Duration::from_secs(lab.pick(5, 20)),
        };
        let mut site = lab.start_with_accounts(variant, transport, users)?;
        let prefix = format!("{}: ", transport.name());
        let flow =
            site.with_everybody_online(lab, &prefix, trial, |online| flow::measure(lab, &online, &plan))?;
        flow.report(trial, &prefix, "message");
        Ok(())
    }
}

/// Messages a second that keep two cores about 70 % busy with stock ejabberd and the generator together.
fn default_rate(transport: Transport) -> f64 {
    match transport {
        Transport::Tcp => 6000.0,
        Transport::Ws => 5000.0,
        Transport::Bosh => 2100.0,
    }
}

impl Case for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        let rates = TRANSPORTS.map(|transport| {
            format!("{} {}", transport.name(), lab.options.rate.unwrap_or_else(|| default_rate(transport)))
        });
        format!(
            "{} users send each other messages of {} characters for {} s at a fixed rate a second ({}). \
             Latency: from the time at which a message was due until its receiver has read it.",
            Self::users(lab),
            BODY.len(),
            lab.pick(5, 20),
            rates.join(", ")
        )
    }

    fn measure(&self, lab: &Lab<'_>, variant: &Variant) -> Result<Trial> {
        Ok(lab
            .each_transport(|lab, transport, trial| Self::measure_transport(lab, variant, transport, trial)))
    }
}
