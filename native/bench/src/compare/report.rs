//! How outcomes are shown: a table for people.

use crate::compare::figure::{Spread, Unit, number};
use crate::compare::judgement::judgements;
use crate::compare::outcome::CaseOutcome;

/// Prints `outcomes`; the first line says whether anything failed, or is not to be trusted.
pub(crate) fn print(outcomes: &[CaseOutcome]) {
    println!("{}", verdict(outcomes));
    for outcome in outcomes {
        println!("\n{}: {}\n", outcome.name, outcome.description);
        let rows = table(outcome);
        let widths = widths(&rows);
        for row in &rows {
            let line: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("  {}", line.join("  ").trim_end());
        }
        outcome.trust().iter().for_each(|line| println!("  {line}"));
        judgements(outcome).iter().for_each(|line| println!("  {line}"));
        outcome.notes().iter().for_each(|note| println!("  ({note})"));
    }
}

/// One line: that all is well, or what failed how often, and which comparisons are not to be trusted.
pub(crate) fn verdict(outcomes: &[CaseOutcome]) -> String {
    let causes: Vec<String> = outcomes
        .iter()
        .flat_map(|outcome| outcome.trials.iter().map(move |(variant, trial)| (outcome, variant, trial)))
        .flat_map(|(outcome, variant, trial)| {
            let causes = trial.failures.iter();
            causes.map(move |(cause, count)| format!("{} {variant}: {count} x {cause}", outcome.name))
        })
        .collect();
    let errors =
        if causes.is_empty() { "No errors.".to_owned() } else { format!("ERRORS: {}.", causes.join("; ")) };
    let doubtful = outcomes.iter().filter(|outcome| !outcome.is_trustworthy());
    let doubtful: Vec<&str> = doubtful.map(|outcome| outcome.name.as_str()).collect();
    if doubtful.is_empty() { errors } else { format!("{errors} NOT TRUSTWORTHY: {}.", doubtful.join(", ")) }
}

/// Rows of cells, the heading first: the figure, each variant's median and range, ratios to the first
/// variant, and the limit where one is known.
pub(crate) fn table(outcome: &CaseOutcome) -> Vec<Vec<String>> {
    let Some((first, others)) = outcome.variants.split_first() else { return Vec::new() };
    let mut heading = vec!["figure".to_owned()];
    heading.extend(outcome.variants.iter().cloned());
    heading.extend(others.iter().map(|other| format!("{other} / {first}")));
    heading.push("known limit".to_owned());
    let mut rows = vec![heading];
    for reading in outcome.rows() {
        let what = &reading.what;
        let spreads = outcome.variants.iter().map(|variant| outcome.spread(variant, what));
        let ratios = others.iter().map(|other| outcome.ratio(other, what));
        let mut row = vec![what.clone()];
        row.extend(spreads.map(|spread| cell(spread, reading.unit)));
        row.extend(ratios.map(|ratio| ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.text())));
        row.push(reading.limit.map_or_else(String::new, |limit| number(limit, reading.unit)));
        rows.push(row);
    }
    rows
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    (0..columns).map(width).collect()
}

fn cell(spread: Option<Spread>, unit: Unit) -> String {
    let Some(Spread { median, least, most }) = spread else { return "-".to_owned() };
    if least.total_cmp(&most).is_eq() {
        return number(median, unit);
    }
    format!("{} ({} to {})", number(median, unit), number(least, unit), number(most, unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::outcome::Trial;

    #[test]
    fn a_row_has_medians_with_ranges_and_the_ratio_with_the_range_of_pairs() {
        let mut outcome = CaseOutcome::new("chat", ["stock", "megaphone"]);
        for (window, stock, megaphone) in [(1, 4.0, 1.0), (2, 2.0, 2.0), (3, 4.0, 2.0)] {
            for (variant, value) in [("stock", stock), ("megaphone", megaphone)] {
                let mut trial = Trial::of_window(window);
                trial.add("time", Unit::Milliseconds, value);
                outcome.keep(variant, trial);
            }
        }
        let rows = table(&outcome);
        assert_eq!(rows[0], ["figure", "stock", "megaphone", "megaphone / stock", "known limit"]);
        assert_eq!(
            rows[1],
            [
                "time",
                "4.00 ms (2.00 ms to 4.00 ms)",
                "2.00 ms (1.00 ms to 2.00 ms)",
                "0.500 (0.250 to 1.000)",
                ""
            ]
        );
    }

    #[test]
    fn the_verdict_names_what_is_not_to_be_trusted() {
        let mut outcome = CaseOutcome::new("chat", ["stock"]);
        assert_eq!(verdict(std::slice::from_ref(&outcome)), "No errors.");
        outcome.disturbed = 2;
        assert_eq!(verdict(&[outcome]), "No errors. NOT TRUSTWORTHY: chat.");
    }
}
