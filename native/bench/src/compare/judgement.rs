//! Whether figures of Megaphone come to what they are to come to.

use crate::compare::figure::number;
use crate::compare::outcome::CaseOutcome;
use crate::compare::target::{Bound, Target};
use crate::server::variant::MEGAPHONE;

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
    let (figure, bound, is_kept) = match target.bound {
        Bound::AtMost(most) => {
            let value = outcome.spread(variant, &target.what)?.median;
            (number(value, unit), format!("at most {}", number(most, unit)), value <= most)
        }
        Bound::RatioAtMost(most) => {
            let ratio = outcome.ratio(variant, &target.what)?;
            (format!("{} of stock", ratio.text()), format!("at most {most}"), ratio.of_medians <= most)
        }
        Bound::PartOf(other, most) => {
            let ratio = outcome.ratio_to(variant, other, &target.what)?;
            (format!("{} of {other}", ratio.text()), format!("at most {most}"), ratio.of_medians <= most)
        }
    };
    let verdict = if is_kept { "met" } else { "MISSED" };
    Some(format!("target of {variant}, {}: {bound}; {figure}: {verdict}", target.what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::figure::Unit;
    use crate::compare::outcome::Trial;

    fn outcome(targets: Vec<Target>) -> CaseOutcome {
        let trial = |bytes: f64, rate: f64| {
            let mut trial = Trial::default();
            trial.add("bytes", Unit::Bytes, bytes).add("rate", Unit::PerSecond, rate);
            trial
        };
        let mut outcome = CaseOutcome::new("", ["stock", "megaphone"]);
        outcome.targets = targets;
        outcome.keep("stock", trial(50.0, 10.0));
        outcome.keep("megaphone", trial(7.0, 15.0));
        outcome
    }

    #[test]
    fn targets_are_for_megaphone_and_say_what_came_out() {
        let targets = vec![
            Target::new("bytes", Bound::AtMost(6.0)),
            Target::new("rate", Bound::RatioAtMost(1.6)),
            Target::new("rate", Bound::RatioAtMost(1.0)),
        ];
        assert_eq!(
            judgements(&outcome(targets)),
            [
                "target of megaphone, bytes: at most 6 B; 7 B: MISSED",
                "target of megaphone, rate: at most 1.6; 1.500 of stock: met",
                "target of megaphone, rate: at most 1; 1.500 of stock: MISSED",
            ]
        );
    }

    #[test]
    fn a_figure_is_compared_with_that_of_another_variant_where_it_ran() {
        let bound = Bound::PartOf("unpacked", 1.0);
        let mut outcome = outcome(vec![Target::new("bytes", bound)]);
        assert!(judgements(&outcome).is_empty());
        let mut trial = Trial::default();
        trial.add("bytes", Unit::Bytes, 14.0);
        outcome.keep("unpacked", trial);
        assert_eq!(judgements(&outcome), ["target of megaphone, bytes: at most 1; 0.500 of unpacked: met"]);
    }

    #[test]
    fn without_figures_or_without_stock_nothing_is_judged() {
        let targets =
            vec![Target::new("other", Bound::AtMost(1.0)), Target::new("rate", Bound::RatioAtMost(1.0))];
        let mut outcome = outcome(targets);
        outcome.variants.remove(0);
        assert!(judgements(&outcome).is_empty());
    }
}
