//! Latencies: how they are recorded and summed up.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies above this are recorded as this; every wait of the generator ends earlier.
const LONGEST: Duration = Duration::from_secs(600);

/// An empty histogram of nanoseconds with three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    match Histogram::new_with_max(LONGEST.as_nanos() as u64, 3) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("refused are only bounds below 2 and more than 5 digits"),
    }
}

/// Adds one latency.
pub(crate) fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
}

/// Percentiles of a histogram, in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Summary {
    /// Values recorded.
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Sums up `histogram`; all zero when nothing was recorded.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        Self {
            count: histogram.len(),
            mean: histogram.mean() / 1e6,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_in_milliseconds_and_keeps_the_tail() {
        let mut histogram = histogram();
        for milliseconds in 1..=1000 {
            record(&mut histogram, Duration::from_millis(milliseconds));
        }
        let summary = Summary::of(&histogram);
        assert_eq!(summary.count, 1000);
        assert!((summary.p50 - 500.0).abs() < 1.0, "{summary:?}");
        assert!((summary.p999 - 999.0).abs() < 1.0, "{summary:?}");
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(Summary::of(&histogram()).max, 0.0);
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let mut histogram = histogram();
        record(&mut histogram, Duration::MAX);
        assert_eq!(histogram.len(), 1);
        assert!(histogram.max() >= LONGEST.as_nanos() as u64);
    }
}
