//! How outcomes are kept: JSON with all raw figures, and a plot of each.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::compare::options::Options;
use crate::compare::outcome::CaseOutcome;
use crate::compare::{plot, report};

/// Saves all outcomes with their raw figures, and a plot of each beside them.
///
/// # Errors
/// When the folder or the file can't be written.
pub(crate) fn save(outcomes: &[CaseOutcome], options: &Options) -> Result<()> {
    fs::create_dir_all(&options.results)?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = options.results.join(format!("{seconds}.json"));
    let summaries: Vec<Value> = outcomes.iter().map(summary).collect();
    let document =
        json!({ "verdict": report::verdict(outcomes), "summaries": summaries, "outcomes": outcomes });
    fs::write(&path, serde_json::to_string_pretty(&document)?)
        .with_context(|| format!("writing {}", path.display()))?;
    for outcome in outcomes.iter().filter(|outcome| !outcome.rows().is_empty()) {
        plot::draw(outcome, &options.results.join(format!("{seconds}-{}.svg", outcome.name)))?;
    }
    println!("\nAll figures: {}", path.display());
    Ok(())
}

/// What the table shows, for programs: spreads by variant, and ratios to the first variant.
fn summary(outcome: &CaseOutcome) -> Value {
    let figures: Vec<Value> = outcome
        .rows()
        .iter()
        .map(|row| {
            let spreads = outcome.variants.iter().map(|name| (name, outcome.spread(name, &row.what)));
            let spreads: serde_json::Map<String, Value> =
                spreads.map(|(name, spread)| (name.clone(), json!(spread))).collect();
            let ratios = outcome
                .variants
                .iter()
                .filter_map(|name| outcome.ratio(name, &row.what).map(|ratio| (name.clone(), json!(ratio))));
            let ratios: serde_json::Map<String, Value> = ratios.collect();
            json!({ "what": row.what, "unit": row.unit, "spreads": spreads, "ratios": ratios })
        })
        .collect();
    json!({
        "name": outcome.name,
        "trust": outcome.trust(),
        "is_trustworthy": outcome.is_trustworthy(),
        "discarded_windows": outcome.discarded.len(),
        "disturbed_windows": outcome.disturbed,
        "figures": figures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::figure::Unit;
    use crate::compare::outcome::Trial;

    #[test]
    fn a_summary_has_spreads_and_ratios() {
        let mut outcome = CaseOutcome::new("chat", ["stock", "megaphone"]);
        for (variant, window, value) in
            [("stock", 1, 4.0), ("megaphone", 1, 1.0), ("stock", 2, 2.0), ("megaphone", 2, 2.0)]
        {
            let mut trial = Trial::of_window(window);
            trial.add("time", Unit::Milliseconds, value);
            outcome.keep(variant, trial);
        }
        let figure = &summary(&outcome)["figures"][0];
        assert_eq!(figure["spreads"]["stock"], json!({ "median": 3.0, "least": 2.0, "most": 4.0 }));
        assert_eq!(
            figure["ratios"],
            json!({ "megaphone": { "of_medians": 0.5, "least": 0.25, "most": 1.0 } })
        );
    }
}
