//! What figures of Megaphone are to come to.

use serde::Serialize;

/// A bound for one figure of Megaphone.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Target {
    /// The figure's name in the trials.
    pub(crate) what: String,
    pub(crate) bound: Bound,
}

/// Bounds of the median, or of the ratio of medians to the first variant or to another one.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    RatioAtMost(f64),
    /// The ratio to the variant of this name, at most.
    PartOf(&'static str, f64),
}

impl Target {
    /// `what` is to keep `bound`.
    pub(crate) fn new(what: impl Into<String>, bound: Bound) -> Self {
        Self { what: what.into(), bound }
    }
}
