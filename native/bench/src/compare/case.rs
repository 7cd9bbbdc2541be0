//! What a comparison is.

use anyhow::Result;

use crate::compare::lab::Lab;
use crate::compare::outcome::CaseOutcome;
use crate::compare::target::Target;

/// One kind of comparison.
pub(crate) trait Case {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// What was done and counted, in a sentence or two; to be asked after the run.
    fn describe(&self, lab: &Lab<'_>) -> String;

    /// What Megaphone's figures are to come to.
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    /// Measures all variants of the lab; figures and failures of single users go to `outcome`.
    ///
    /// # Errors
    /// When the comparison had to be given up.
    fn run(&mut self, lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()>;
}
