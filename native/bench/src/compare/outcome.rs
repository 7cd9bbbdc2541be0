//! What comparisons yield: readings, and what they come to over the windows.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::compare::figure::{Ratio, Reading, Series, Spread, Unit};
use crate::compare::target::Target;
use crate::generator::latency::Summary;

/// One measurement of one variant.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Trial {
    /// The number of its window, from 1; 0 for what is there once, as what happens when users log in.
    pub(crate) window: usize,
    pub(crate) readings: Vec<Reading>,
    /// Failures by cause.
    pub(crate) failures: BTreeMap<String, u64>,
    /// What a reader of the figures has to know.
    pub(crate) notes: Vec<String>,
    /// Cores that other programs kept busy while the figures were measured, where that was looked at.
    pub(crate) others: Option<f64>,
    /// What the readings were computed from.
    pub(crate) raw: Vec<serde_json::Value>,
}

impl Trial {
    /// An empty one of this window.
    pub(crate) fn of_window(window: usize) -> Self {
        Self { window, ..Self::default() }
    }

    /// Counts the failure of all of `part`.
    pub(crate) fn lose(&mut self, part: &str, error: &anyhow::Error) {
        self.failures.insert(format!("{part}: {error:#}"), 1);
    }

    /// Adds a reading.
    pub(crate) fn add(&mut self, what: impl Into<String>, unit: Unit, value: f64) -> &mut Self {
        self.readings.push(Reading { what: what.into(), unit, value, limit: None });
        self
    }

    /// Adds the percentiles of a latency, under names that begin with `prefix`.
    pub(crate) fn add_latency(&mut self, prefix: &str, latency: &Summary) {
        let parts =
            [("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99), ("maximum", latency.max)];
        for (part, value) in parts {
            self.add(format!("{prefix}latency {part}"), Unit::Milliseconds, value);
        }
        self.keep(&format!("{prefix}latency"), latency);
    }

    /// Gives the reading added last a bound to be compared with.
    pub(crate) fn against(&mut self, limit: f64) -> &mut Self {
        if let Some(reading) = self.readings.last_mut() {
            reading.limit = Some(limit);
        }
        self
    }

    /// Adds failures by cause.
    pub(crate) fn failed(&mut self, causes: BTreeMap<String, u64>) {
        for (cause, count) in causes {
            *self.failures.entry(cause).or_default() += count;
        }
    }

    /// Other programs kept so many cores busy during a part of it; the worst part counts.
    pub(crate) fn disturbed_by(&mut self, others: f64) {
        self.others = Some(self.others.unwrap_or(0.0).max(others));
    }

    /// Keeps what readings were computed from.
    pub(crate) fn keep(&mut self, what: &str, value: impl Serialize) {
        self.raw.push(serde_json::json!({ "what": what, "value": value }));
    }
}

/// All trials of a comparison, in the order they ran.
#[derive(Debug, Serialize)]
pub(crate) struct CaseOutcome {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) variants: Vec<String>,
    pub(crate) targets: Vec<Target>,
    pub(crate) trials: Vec<(String, Trial)>,
    /// Windows that were measured again because other programs disturbed them.
    pub(crate) discarded: Vec<(String, Trial)>,
    /// Windows that were kept though other programs disturbed them: there had been too many of them.
    pub(crate) disturbed: usize,
    /// What else makes the figures doubtful.
    pub(crate) doubts: Vec<String>,
}

impl CaseOutcome {
    /// One of these variants, without trials.
    pub(crate) fn new<T: Into<String>>(name: &str, variants: impl IntoIterator<Item = T>) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            variants: variants.into_iter().map(Into::into).collect(),
            targets: Vec::new(),
            trials: Vec::new(),
            discarded: Vec::new(),
            disturbed: 0,
            doubts: Vec::new(),
        }
    }

    /// Takes a trial of `variant`.
    pub(crate) fn keep(&mut self, variant: &str, trial: Trial) {
        self.trials.push((variant.to_owned(), trial));
    }

    /// Counts the failure of all of `part`, of no variant in particular.
    pub(crate) fn lose(&mut self, part: &str, error: &anyhow::Error) {
        let mut lost = Trial::default();
        lost.lose(part, error);
        self.keep("comparison", lost);
    }

    /// Whether nothing failed.
    pub(crate) fn is_clean(&self) -> bool {
        self.trials.iter().all(|(_, trial)| trial.failures.is_empty())
    }

    /// Whether no window with figures was disturbed, nor anything they rest on.
    pub(crate) fn is_trustworthy(&self) -> bool {
        self.disturbed == 0 && self.doubts.is_empty()
    }

    /// What a reader of the figures has to know, each thing once.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        for (variant, trial) in &self.trials {
            let named = trial.notes.iter().map(|note| format!("{variant}: {note}"));
            named.for_each(|note| {
                if !notes.contains(&note) {
                    notes.push(note);
                }
            });
        }
        notes
    }

    /// The kinds of readings, in the order in which trials gave them.
    pub(crate) fn rows(&self) -> Vec<&Reading> {
        let mut rows: Vec<&Reading> = Vec::new();
        let of_variants = self.trials.iter().filter(|(name, _)| self.variants.contains(name));
        for reading in of_variants.flat_map(|(_, trial)| &trial.readings) {
            if rows.iter().all(|row| row.what != reading.what) {
                rows.push(reading);
            }
        }
        rows
    }

    /// `what` of `variant` by window; empty when no window gave it.
    pub(crate) fn series(&self, variant: &str, what: &str) -> Series {
        let of_variant = self.trials.iter().filter(|(name, _)| name == variant);
        of_variant
            .flat_map(|(_, trial)| trial.readings.iter().map(move |reading| (trial.window, reading)))
            .filter(|(_, reading)| reading.what == what)
            .map(|(window, reading)| (window, reading.value))
            .collect()
    }

    /// `what` of `variant` over the windows, `None` when no window gave it.
    pub(crate) fn spread(&self, variant: &str, what: &str) -> Option<Spread> {
        Spread::of(self.series(variant, what).into_values())
    }

    /// `what` of `variant` to that of the first variant, `None` when it is the first or there is nothing to
    /// compare.
    pub(crate) fn ratio(&self, variant: &str, what: &str) -> Option<Ratio> {
        let first = self.variants.first().filter(|first| first.as_str() != variant)?;
        self.ratio_to(variant, first, what)
    }

    /// `what` of `variant` to that of the variant `other`, `None` when there is nothing to compare.
    pub(crate) fn ratio_to(&self, variant: &str, other: &str, what: &str) -> Option<Ratio> {
        Ratio::of(&self.series(variant, what), &self.series(other, what))
    }

    /// How far the figures can be trusted, in a sentence; `None` where windows are not discarded at all.
    pub(crate) fn trust(&self) -> Option<String> {
        let kept = self.trials.iter().filter(|(_, trial)| trial.window > 0 && trial.others.is_some()).count();
        let discarded = self.discarded.len();
        if kept == 0 && self.is_trustworthy() {
            return None;
        }
        let mut text = if self.is_trustworthy() { String::new() } else { "NOT TRUSTWORTHY. ".to_owned() };
        text.push_str(&format!(
            "{kept} windows, of which other programs disturbed {}; {discarded} disturbed ones were discarded.",
            self.disturbed
        ));
        self.doubts.iter().for_each(|doubt| text.push_str(&format!(" {doubt}")));
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn window(number: usize, value: f64) -> Trial {
        let mut trial = Trial::of_window(number);
        trial.add("time", Unit::Milliseconds, value).against(1.0);
        trial.disturbed_by(0.0);
        trial
    }

    #[test]
    fn a_trial_that_was_lost_makes_the_outcome_unclean() {
        let mut outcome = CaseOutcome::new("", ["stock"]);
        outcome.keep("stock", Trial::default());
        assert!(outcome.is_clean());
        outcome.lose("run", &anyhow::anyhow!("no server"));
        assert!(!outcome.is_clean());
    }

    #[test]
    fn windows_are_paired_by_number_whatever_the_order_they_ran_in() {
        let mut outcome = CaseOutcome::new("", ["stock", "megaphone"]);
        for (variant, number, value) in
            [("stock", 1, 2.0), ("megaphone", 1, 1.0), ("megaphone", 2, 6.0), ("stock", 2, 3.0)]
        {
            outcome.keep(variant, window(number, value));
        }
        let ratio = outcome.ratio("megaphone", "time").unwrap();
        assert_eq!((ratio.of_medians, ratio.least, ratio.most), (1.4, 0.5, 2.0));
        assert_eq!(outcome.ratio("stock", "time"), None);
    }

    #[test]
    fn the_worst_part_of_a_trial_says_how_disturbed_it_was() {
        let mut trial = Trial::default();
        trial.disturbed_by(0.3);
        trial.disturbed_by(0.1);
        assert_eq!(trial.others, Some(0.3));
    }

    #[test]
    fn an_outcome_says_how_far_it_can_be_trusted() {
        let mut outcome = CaseOutcome::new("", ["stock"]);
        assert_eq!(outcome.trust(), None);
        outcome.keep("stock", window(1, 1.0));
        let quiet = "1 windows, of which other programs disturbed 0; 0 disturbed ones were discarded.";
        assert_eq!(outcome.trust().as_deref(), Some(quiet));
        outcome.doubts.push("The rate is a guess.".to_owned());
        assert_eq!(outcome.trust(), Some(format!("NOT TRUSTWORTHY. {quiet} The rate is a guess.")));
        assert!(!outcome.is_trustworthy());
    }
}
