//! In which order windows are measured, and what becomes of those that other programs disturbed.
//!
//! Windows of all variants alternate, so that what changes on the machine in the meantime touches all alike.
//! Every second round runs backwards (A B B A A B): no variant is always the second, and two windows of one
//! number are always neighbours.

/// Cores in use by other programs above which a window is disturbed.
pub(crate) const DISTURBING: f64 = 0.1;

/// So many times the windows asked for are measured at most.
pub(crate) const PATIENCE: usize = 2;

/// The windows of one run. [`Schedule::next`] says which one is due, [`Schedule::judge`] what becomes of it.
#[derive(Debug)]
pub(crate) struct Schedule {
    variants: usize,
    total: usize,
    /// Windows that were kept.
    kept: usize,
    /// Windows that were measured.
    measured: usize,
}

/// A window that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The position of the variant.
    pub(crate) variant: usize,
    /// From 1.
    pub(crate) window: usize,
}

/// What becomes of a window that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Keep,
    /// It was disturbed, and there is no room left to measure it again.
    KeepDisturbed,
    /// It was disturbed; the same one is due again.
    Discard,
}

impl Schedule {
    /// `windows` of each of so many variants.
    pub(crate) fn new(variants: usize, windows: usize) -> Self {
        Self { variants, total: variants * windows, kept: 0, measured: 0 }
    }

    /// The window that is due, `None` after the last one.
    pub(crate) fn next(&self) -> Option<Turn> {
        if self.kept == self.total {
            return None;
        }
        let (round, position) = (self.kept / self.variants, self.kept % self.variants);
        let variant = if round % 2 == 0 { position } else { self.variants - 1 - position };
        Some(Turn { variant, window: round + 1 })
    }

    /// Decides about the window that is due, during which other programs kept `others` cores busy.
    pub(crate) fn judge(&mut self, others: f64) -> Decision {
        self.measured += 1;
        let is_disturbed = others > DISTURBING;
        let room = PATIENCE * self.total - self.measured;
        if is_disturbed && room >= self.total - self.kept {
            return Decision::Discard;
        }
        self.kept += 1;
        if is_disturbed { Decision::KeepDisturbed } else { Decision::Keep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: f64 = 0.02;
    const BUSY: f64 = 0.5;

    /// The variants of all windows in order, and how each was decided about.
    fn run(mut schedule: Schedule, mut others: impl FnMut(usize) -> f64) -> Vec<(Turn, Decision)> {
        let mut ran = Vec::new();
        while let Some(turn) = schedule.next() {
            ran.push((turn, schedule.judge(others(ran.len()))));
        }
        ran
    }

    fn count(ran: &[(Turn, Decision)], decision: Decision) -> usize {
        ran.iter().filter(|(_, decided)| *decided == decision).count()
    }

    #[test]
    fn windows_alternate_and_every_second_round_runs_backwards() {
        let ran = run(Schedule::new(2, 3), |_| QUIET);
        let order: Vec<(usize, usize)> = ran.iter().map(|(turn, _)| (turn.variant, turn.window)).collect();
        assert_eq!(order, [(0, 1), (1, 1), (1, 2), (0, 2), (0, 3), (1, 3)]);
        let three = run(Schedule::new(3, 2), |_| QUIET);
        let order: Vec<usize> = three.iter().map(|(turn, _)| turn.variant).collect();
        assert_eq!(order, [0, 1, 2, 2, 1, 0]);
    }

    #[test]
    fn a_disturbed_window_is_due_again_at_once() {
        let ran = run(Schedule::new(2, 2), |number| if number == 1 { BUSY } else { QUIET });
        let order: Vec<usize> = ran.iter().map(|(turn, _)| turn.variant).collect();
        assert_eq!(order, [0, 1, 1, 1, 0]);
        assert_eq!((ran[1].1, ran[2].1), (Decision::Discard, Decision::Keep));
    }

    #[test]
    fn exactly_a_tenth_of_a_core_disturbs_nothing() {
        assert_eq!(Schedule::new(1, 1).judge(DISTURBING), Decision::Keep);
    }

    #[test]
    fn a_machine_that_is_never_quiet_gets_twice_the_windows_and_no_more() {
        let ran = run(Schedule::new(2, 5), |_| BUSY);
        assert_eq!(ran.len(), 20);
        assert_eq!((count(&ran, Decision::Discard), count(&ran, Decision::KeepDisturbed)), (10, 10));
    }

    #[test]
    fn what_is_quiet_late_is_still_taken() {
        let ran = run(Schedule::new(2, 5), |number| if number < 10 { BUSY } else { QUIET });
        assert_eq!((count(&ran, Decision::Discard), count(&ran, Decision::Keep)), (10, 10));
        let ran = run(Schedule::new(2, 5), |number| if number < 12 { BUSY } else { QUIET });
        assert_eq!(count(&ran, Decision::KeepDisturbed), 2);
        assert_eq!(ran.len(), 20);
    }
}
