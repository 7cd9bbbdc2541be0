//! Figures: their units, how they are written, and what they come to over the windows.

use std::collections::BTreeMap;

use serde::Serialize;

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

/// Values of one figure by window.
pub(crate) type Series = BTreeMap<usize, f64>;

/// Median and range over the windows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// How one variant's figure compares with another's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// The ratio of the two medians.
    pub(crate) of_medians: f64,
    /// The least of the ratios of window i to window i.
    pub(crate) least: f64,
    /// The greatest of them.
    pub(crate) most: f64,
}

/// What is less than this, in any unit, is noise around nothing: a ratio to it would be noise many times over.
const NOTHING: f64 = 0.01;

impl Spread {
    /// That of `values`, `None` when there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, least, most })
    }
}

impl Ratio {
    /// That of `of` to `to`. `None` when `to` is about nothing, or no window has both.
    pub(crate) fn of(of: &Series, to: &Series) -> Option<Self> {
        let is_something = |value: f64| value.abs() > NOTHING;
        let medians = (Spread::of(of.values().copied())?.median, Spread::of(to.values().copied())?.median);
        let pairs = of.iter().filter_map(|(window, of)| Some((of, *to.get(window)?)));
        let range = Spread::of(pairs.filter(|(_, to)| is_something(*to)).map(|(of, to)| of / to))?;
        is_something(medians.1).then_some(Self {
            of_medians: medians.0 / medians.1,
            least: range.least,
            most: range.most,
        })
    }

    /// The ratio and its range, for people.
    pub(crate) fn text(&self) -> String {
        let Self { of_medians, least, most } = self;
        if least.total_cmp(most).is_eq() {
            return format!("{of_medians:.3}");
        }
        format!("{of_medians:.3} ({least:.3} to {most:.3})")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        values.iter().copied().enumerate().collect()
    }

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 9.0]), Some(Spread { median: 3.0, least: 1.0, most: 9.0 }));
        assert_eq!(Spread::of([4.0, 2.0]), Some(Spread { median: 3.0, least: 2.0, most: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_is_of_medians_and_its_range_is_of_pairs() {
        let ratio = Ratio::of(&series(&[2.0, 3.0, 40.0]), &series(&[4.0, 2.0, 5.0]));
        // Medians are 3 and 4; the windows' ratios are 0.5, 1.5 and 8.
        assert_eq!(ratio, Some(Ratio { of_medians: 0.75, least: 0.5, most: 8.0 }));
    }

    #[test]
    fn a_window_that_only_one_has_is_in_no_pair() {
        let mut of = series(&[1.0, 2.0, 3.0]);
        of.remove(&1);
        let ratio = Ratio::of(&of, &series(&[2.0, 100.0, 2.0]));
        assert_eq!(ratio, Some(Ratio { of_medians: 1.0, least: 0.5, most: 1.5 }));
        assert_eq!(Ratio::of(&of, &Series::from([(7, 1.0)])), None);
    }

    #[test]
    fn there_is_no_ratio_to_nothing() {
        assert_eq!(Ratio::of(&series(&[1.0]), &series(&[0.0])), None);
        assert_eq!(Ratio::of(&series(&[1.0]), &Series::new()), None);
    }
}
