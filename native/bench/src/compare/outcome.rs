//! What comparisons yield: readings, and what they come to over the rounds.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::compare::target::Target;

/// The unit of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Of which a user may have a part.
    Count,
    /// Of which there are no parts.
    Whole,
    Bytes,
    /// Of 1,048,576 bytes.
    Megabytes,
    PerSecond,
    Milliseconds,
    Microseconds,
    Cores,
}

/// One figure of one trial.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reading {
    /// What was measured; the same in each trial.
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
    /// A bound that the figure can be compared with, where one is known.
    pub(crate) limit: Option<f64>,
}

/// One measurement of one variant.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Trial {
    pub(crate) readings: Vec<Reading>,
    /// Failures by cause.
    pub(crate) failures: BTreeMap<String, u64>,
    /// What a reader of the figures has to know.
    pub(crate) notes: Vec<String>,
    /// What the readings were computed from.
    pub(crate) raw: Vec<serde_json::Value>,
}

impl Trial {
    /// Counts the failure of all of `part`.
    pub(crate) fn lose(&mut self, part: &str, error: &anyhow::Error) {
        self.failures.insert(format!("{part}: {error:#}"), 1);
    }

    /// Adds a reading.
    pub(crate) fn add(&mut self, what: impl Into<String>, unit: Unit, value: f64) -> &mut Self {
        self.readings.push(Reading { what: what.into(), unit, value, limit: None });
        self
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
}

/// Median and range over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl CaseOutcome {
    /// Whether nothing failed.
    pub(crate) fn is_clean(&self) -> bool {
        self.trials.iter().all(|(_, trial)| trial.failures.is_empty())
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

    /// `what` of `variant` over the rounds, `None` when no round gave it.
    pub(crate) fn spread(&self, variant: &str, what: &str) -> Option<Spread> {
        let values = self
            .trials
            .iter()
            .filter(|(name, _)| name == variant)
            .flat_map(|(_, trial)| &trial.readings)
            .filter(|reading| reading.what == what)
            .map(|reading| reading.value);
        Spread::of(values.collect())
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 9.0]), Some(Spread { median: 3.0, least: 1.0, most: 9.0 }));
        assert_eq!(Spread::of(vec![4.0, 2.0]), Some(Spread { median: 3.0, least: 2.0, most: 4.0 }));
        assert_eq!(Spread::of(vec![]), None);
    }

    #[test]
    fn a_trial_that_was_lost_makes_the_outcome_unclean() {
        let mut outcome = CaseOutcome {
            name: String::new(),
            description: String::new(),
            variants: vec!["stock".into()],
            targets: Vec::new(),
            trials: vec![("stock".into(), Trial::default())],
        };
        assert!(outcome.is_clean());
        let mut lost = Trial::default();
        lost.lose("run", &anyhow::anyhow!("no server"));
        outcome.trials.push(("stock".into(), lost));
        assert!(!outcome.is_clean());
    }
}
