//! Measures variants in turn: in short windows beside each other, or in runs with a server of their own.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use crate::compare::lab::Lab;
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::schedule::{DISTURBING, Decision, Schedule};
use crate::measure::machine::Meter;
use crate::server::variant::Variant;

/// After a window that was disturbed the machine is watched for so many seconds at most until it is quiet; for
/// half as many when that was in vain.
const WATCHES: u32 = 10;

/// Measures windows of all variants alternately with `measure`, which is given the position of the variant. A
/// window that other programs disturbed is measured again, within bounds.
///
/// `measure` says by [`Trial::disturbed_by`] what others did. Its errors are failures of their window, called
/// `label`.
pub(crate) fn alternate(
    lab: &Lab<'_>,
    label: &str,
    outcome: &mut CaseOutcome,
    mut measure: impl FnMut(usize, &mut Trial) -> Result<()>,
) {
    let windows = lab.windows();
    let mut watches = WATCHES;
    let mut schedule = Schedule::new(lab.variants.len(), windows);
    while let Some(turn) = schedule.next() {
        let variant = &lab.variants[turn.variant].name;
        let mut trial = Trial::of_window(turn.window);
        if let Err(error) = measure(turn.variant, &mut trial) {
            trial.lose(label, &error);
        }
        let others = trial.others.unwrap_or(0.0);
        let decision = schedule.judge(others);
        let remark = if decision == Decision::Keep { "" } else { ", disturbed" };
        eprintln!(
            "{}: {label}, {variant}, window {} of {windows}: others {others:.2} cores{remark}",
            outcome.name, turn.window
        );
        match decision {
            Decision::Keep => outcome.keep(variant, trial),
            Decision::KeepDisturbed => {
                outcome.disturbed += 1;
                outcome.keep(variant, trial);
            }
            Decision::Discard => {
                outcome.discarded.push((variant.clone(), trial));
                if !wait_for_quiet(watches) {
                    watches /= 2;
                }
            }
        }
    }
}

/// Watches the machine for `seconds` at most. Says whether it became quiet.
fn wait_for_quiet(seconds: u32) -> bool {
    (0..seconds).any(|_| {
        let Ok(meter) = Meter::start(Vec::new()) else { return false };
        sleep(Duration::from_secs(1));
        meter.stop().is_ok_and(|usage| usage.others <= DISTURBING)
    })
}

/// Measures runs of all variants alternately with `measure`, which starts the server and uses it up. Nothing is
/// discarded: these runs are long, and memory is not what other programs disturb most.
pub(crate) fn restart(
    lab: &Lab<'_>,
    outcome: &mut CaseOutcome,
    mut measure: impl FnMut(&Variant, &mut Trial) -> Result<()>,
) {
    let runs = lab.runs();
    for run in 1..=runs {
        for variant in &lab.variants {
            eprintln!("{}: {}, run {run} of {runs}", outcome.name, variant.name);
            let trial = watched(run, |trial| measure(variant, trial));
            outcome.keep(&variant.name, trial);
        }
    }
}

/// Notes when other programs kept the processors busy meanwhile.
fn watched(run: usize, measure: impl FnOnce(&mut Trial) -> Result<()>) -> Trial {
    let mut trial = Trial::of_window(run);
    let meter = Meter::start(Vec::new());
    if let Err(error) = measure(&mut trial) {
        trial.lose("run", &error);
    }
    match meter.and_then(|meter| meter.stop()) {
        Ok(usage) => {
            trial.keep("cores that other programs kept busy", usage.others);
            // Ticks of the clock are too coarse to say anything of less.
            if usage.others > DISTURBING && usage.seconds > 1.0 {
                trial.notes.push(format!("disturbed: other programs kept {:.1} cores busy", usage.others));
            }
        }
        Err(error) => trial.lose("watching other programs", &error),
    }
    trial
}
