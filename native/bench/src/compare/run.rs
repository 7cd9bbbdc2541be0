//! Runs the comparisons that were asked for, prints and saves them.

use anyhow::Result;

use crate::compare::case::Case;
use crate::compare::lab::Lab;
use crate::compare::options::{Choice, Options};
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::{
    bosh, chat, flood, http, idle, links, logins, memory, publish, report, save, shapes, wake,
};
use crate::server::variant::{ECM, Variant};
use crate::status::Status;

/// Does all that `options` ask for.
///
/// # Errors
/// When a variant does not exist or is not built, or results can't be saved.
pub(crate) fn run(options: &Options) -> Result<Status> {
    let ecm = [ECM.to_owned()];
    let lab = Lab { options, variants: variants(if options.ecm { &ecm } else { &options.variants })? };
    let outcomes: Vec<CaseOutcome> =
        cases(options).iter_mut().map(|case| run_case(case.as_mut(), &lab)).collect();
    report::print(&outcomes);
    save::save(&outcomes, options)?;
    if options.publish {
        publish::publish(&outcomes)?;
    }
    Ok(status(&outcomes))
}

fn cases(options: &Options) -> Vec<Box<dyn Case>> {
    let choice = options.choice;
    let all: [(Choice, Box<dyn Case>); 10] = [
        (Choice::Idle, Box::new(idle::Idle)),
        (Choice::Http, Box::new(http::Http)),
        (Choice::Memory, Box::new(memory::Memory::new(options.contacts))),
        (Choice::Logins, Box::new(logins::Logins)),
        (Choice::Chat, Box::new(chat::Chat::default())),
        (Choice::Wake, Box::new(wake::Wake)),
        (Choice::Bosh, Box::new(bosh::Bosh)),
        (Choice::Flood, Box::new(flood::Flood)),
        (Choice::Shapes, Box::new(shapes::Shapes)),
        (Choice::Links, Box::new(links::Links)),
    ];
    all.into_iter()
        .filter(|(name, _)| choice == *name || (choice == Choice::All && *name != Choice::Links))
        .map(|(_, case)| case)
        .collect()
}

fn variants(names: &[String]) -> Result<Vec<Variant>> {
    let mut variants: Vec<Variant> = Vec::new();
    for name in names {
        let mut variant = Variant::named(name)?;
        let same = variants.iter().filter(|other| other.name.starts_with(name.as_str())).count();
        if same > 0 {
            variant.name = format!("{name}-{}", same + 1);
        }
        variants.push(variant);
    }
    Ok(variants)
}

fn run_case(case: &mut dyn Case, lab: &Lab<'_>) -> CaseOutcome {
    let mut outcome = CaseOutcome::new(case.name(), lab.variants.iter().map(|variant| variant.name.as_str()));
    if let Err(error) = case.run(lab, &mut outcome) {
        outcome.lose("run", &error);
    }
    for variant in &lab.variants {
        let mut listeners = Trial::default();
        listeners.notes.push(variant.listeners());
        outcome.keep(&variant.name, listeners);
    }
    outcome.description = case.describe(lab);
    outcome.targets = case.targets();
    outcome
}

/// Errors come first: what failed was not measured at all.
fn status(outcomes: &[CaseOutcome]) -> Status {
    if !outcomes.iter().all(CaseOutcome::is_clean) {
        Status::Failed
    } else if !outcomes.iter().all(CaseOutcome::is_trustworthy) {
        Status::Doubtful
    } else {
        Status::Clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_have_a_status_of_their_own_and_errors_come_first() {
        let mut outcome = CaseOutcome::new("", ["stock"]);
        assert_eq!(status(std::slice::from_ref(&outcome)), Status::Clean);
        outcome.disturbed = 1;
        assert_eq!(status(std::slice::from_ref(&outcome)), Status::Doubtful);
        outcome.lose("run", &anyhow::anyhow!("no server"));
        assert_eq!(status(&[outcome]), Status::Failed);
    }
}
