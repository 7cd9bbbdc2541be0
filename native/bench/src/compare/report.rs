//! How outcomes are shown and kept: a table for people, JSON with all raw figures.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::json;

use crate::compare::outcome::{CaseOutcome, Spread, Unit};
use crate::compare::{Options, plot, target};

/// Prints `outcomes`; the first line says whether anything failed.
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
        target::judgements(outcome).iter().for_each(|line| println!("  {line}"));
        outcome.notes().iter().for_each(|note| println!("  ({note})"));
    }
}

/// One line: that all is well, or what failed how often.
pub(crate) fn verdict(outcomes: &[CaseOutcome]) -> String {
    let causes: Vec<String> = outcomes
        .iter()
        .flat_map(|outcome| outcome.trials.iter().map(move |(variant, trial)| (outcome, variant, trial)))
        .flat_map(|(outcome, variant, trial)| {
            let causes = trial.failures.iter();
            causes.map(move |(cause, count)| format!("{} {variant}: {count} x {cause}", outcome.name))
        })
        .collect();
    if causes.is_empty() { "No errors.".to_owned() } else { format!("ERRORS: {}", causes.join("; ")) }
}

/// Rows of cells, the heading first: the figure, each variant's median and range, ratios to the first
/// variant, and the limit where one is known.
pub(crate) fn table(outcome: &CaseOutcome) -> Vec<Vec<String>> {
    let (first, others) = match outcome.variants.split_first() {
        Some((first, others)) => (first.as_str(), others),
        None => return Vec::new(),
    };
    let mut heading = vec!["figure".to_owned()];
    heading.extend(outcome.variants.iter().cloned());
    heading.extend(others.iter().map(|other| format!("{other} / {first}")));
    heading.push("known limit".to_owned());
    let mut rows = vec![heading];
    for reading in outcome.rows() {
        let spread = |variant: &str| outcome.spread(variant, &reading.what);
        let mut row = vec![reading.what.clone()];
        row.extend(outcome.variants.iter().map(|variant| cell(spread(variant), reading.unit)));
        row.extend(others.iter().map(|other| ratio(spread(other), spread(first))));
        row.push(reading.limit.map_or_else(String::new, |limit| number(limit, reading.unit)));
        rows.push(row);
    }
    rows
}

/// Saves all outcomes with their raw figures, and a plot of each beside them.
///
/// # Errors
/// When the folder or the file can't be written.
pub(crate) fn save(outcomes: &[CaseOutcome], options: &Options) -> Result<()> {
    fs::create_dir_all(&options.results)?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = options.results.join(format!("{seconds}.json"));
    let document = json!({ "verdict": verdict(outcomes), "outcomes": outcomes });
    fs::write(&path, serde_json::to_string_pretty(&document)?)
        .with_context(|| format!("writing {}", path.display()))?;
    for outcome in outcomes.iter().filter(|outcome| !outcome.rows().is_empty()) {
        plot::draw(outcome, &options.results.join(format!("{seconds}-{}.svg", outcome.name)))?;
    }
    println!("\nAll figures: {}", path.display());
    Ok(())
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

/// What is less than this, in any unit, is noise around nothing: a ratio to it would be noise many times over.
const NOTHING: f64 = 0.01;

fn ratio(of: Option<Spread>, to: Option<Spread>) -> String {
    match (of, to) {
        (Some(of), Some(to)) if to.median.abs() > NOTHING => format!("{:.3}", of.median / to.median),
        _ => "-".to_owned(),
    }
}

/// A figure with its unit.
pub(crate) fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => format!("{value:.3}"),
        Unit::Whole => format!("{value:.0}"),
        // Adding 0 to a rounded -0.4 takes its sign away.
        Unit::Bytes => format!("{:.0} B", value.round() + 0.0),
        Unit::Megabytes => format!("{value:.1} MB"),
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Milliseconds => format!("{value:.2} ms"),
        Unit::Microseconds => format!("{value:.1} µs"),
        Unit::Cores => format!("{value:.2} cores"),
    }
}
