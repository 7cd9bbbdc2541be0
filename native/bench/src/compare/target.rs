//! What figures of Megaphone are to come to, and whether they do.

use serde::Serialize;

use crate::compare::outcome::CaseOutcome;
use crate::compare::report::number;
use crate::server::variant::MEGAPHONE;

/// A bound for one figure of Megaphone.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Target {
    /// The figure's name in the trials.
    pub(crate) what: String,
    pub(crate) bound: Bound,
}

/// Bounds. Ratios are to the first variant, in medians.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

impl Target {
    /// `what` is to keep `bound`.
    pub(crate) fn new(what: impl Into<String>, bound: Bound) -> Self {
        Self { what: what.into(), bound }
    }
}

/// A line for each target and each run of Megaphone: the figure, the bound, and whether it is kept. None where
/// there is nothing to compare.
pub(crate) fn judgements(outcome: &CaseOutcome) -> Vec<String> {
    let runs = outcome.variants.iter().filter(|variant| variant.starts_with(MEGAPHONE));
    runs.flat_map(|variant| {
        outcome.targets.iter().filter_map(move |target| judgement(outcome, variant, target))
    })
    .collect()
}

fn judgement(outcome: &CaseOutcome, variant: &str, target: &Target) -> Option<String> {
    let rows = outcome.rows();
    let unit = rows.iter().find(|row| row.what == target.what)?.unit;
    let value = outcome.spread(variant, &target.what)?.median;
    let (figure, bound, is_kept) = match target.bound {
        Bound::AtMost(most) => {
            (number(value, unit), format!("at most {}", number(most, unit)), value <= most)
        }
        Bound::RatioAtMost(most) => {
            let ratio = ratio(outcome, variant, target, value)?;
            (format!("{ratio:.3} of stock"), format!("at most {most}"), ratio <= most)
        }
        Bound::RatioAtLeast(least) => {
            let ratio = ratio(outcome, variant, target, value)?;
            (format!("{ratio:.3} of stock"), format!("at least {least}"), ratio >= least)
        }
    };
    let verdict = if is_kept { "met" } else { "MISSED" };
    Some(format!("target of {variant}, {}: {bound}; {figure}: {verdict}", target.what))
}

/// `None` when the first variant is this one, or has no figure.
fn ratio(outcome: &CaseOutcome, variant: &str, target: &Target, value: f64) -> Option<f64> {
    let first = outcome.variants.first().filter(|first| first.as_str() != variant)?;
    let stock = outcome.spread(first, &target.what)?.median;
    (stock.abs() > f64::EPSILON).then_some(value / stock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::outcome::{Trial, Unit};

    fn outcome(targets: Vec<Target>) -> CaseOutcome {
        let trial = |bytes: f64, rate: f64| {
            let mut trial = Trial::default();
            trial.add("bytes", Unit::Bytes, bytes).add("rate", Unit::PerSecond, rate);
            trial
        };
        CaseOutcome {
            name: String::new(),
            description: String::new(),
            variants: vec!["stock".into(), "megaphone".into()],
            targets,
            trials: vec![("stock".into(), trial(50.0, 10.0)), ("megaphone".into(), trial(7.0, 15.0))],
        }
    }

    #[test]
    fn targets_are_for_megaphone_and_say_what_came_out() {
        let targets = vec![
            Target::new("bytes", Bound::AtMost(6.0)),
            Target::new("rate", Bound::RatioAtLeast(1.2)),
            Target::new("rate", Bound::RatioAtMost(1.0)),
        ];
        assert_eq!(
            judgements(&outcome(targets)),
            [
                "target of megaphone, bytes: at most 6 B; 7 B: MISSED",
                "target of megaphone, rate: at least 1.2; 1.500 of stock: met",
                "target of megaphone, rate: at most 1; 1.500 of stock: MISSED",
            ]
        );
    }

    #[test]
    fn without_figures_or_without_stock_nothing_is_judged() {
        let targets =
            vec![Target::new("other", Bound::AtMost(1.0)), Target::new("rate", Bound::RatioAtLeast(1.0))];
        let mut outcome = outcome(targets);
        outcome.variants.remove(0);
        assert!(judgements(&outcome).is_empty());
    }
}
