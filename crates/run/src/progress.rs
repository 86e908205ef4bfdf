//! How far a run is and how long it will take.

use crate::{Outline, Record};

/// Records over which speed is measured.
const RECENT: usize = 50;

/// How far a run is, and the time that it still takes.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps finished.
    pub step: u64,
    /// Steps at which the run ends, where settings and log tell.
    pub steps: Option<u64>,
    /// Steps of all epochs of the run, more than `steps` where `optim.max_steps` ends it earlier.
    pub whole: Option<u64>,
    /// Seconds to the end at the speed of the last records, measurements and checkpoints included.
    pub seconds_left: Option<f64>,
}

impl Progress {
    /// The progress of a run, from its outline and what it has logged.
    pub fn of(outline: &Outline, records: &[Record]) -> Self {
        let Some(last) = records.last() else { return Self::default() };
        let epoch = last.number("epoch");
        let per_epoch = (epoch > 0.0).then(|| (last.step as f64 / epoch).round()).filter(|n| *n >= 1.0);
        let whole = per_epoch.zip(outline.epochs).map(|(n, epochs)| (n as u64).saturating_mul(epochs));
        let steps = whole.map(|n| n.min(outline.max_steps.unwrap_or(n)));
        let left = steps.map(|n| n.saturating_sub(last.step) as f64);
        let pace = seconds_per_step(records);
        let seconds_left = left.zip(pace).map(|(left, pace)| left * pace).filter(|s| s.is_finite());
        Self { step: last.step, steps, whole, seconds_left }
    }

    /// Whether all steps are done.
    pub fn is_finished(&self) -> bool {
        self.steps.is_some_and(|steps| self.step >= steps)
    }

    /// Says in words that `optim.max_steps` ended the run before its epochs were over; `None` where it did not.
    pub fn cut(&self) -> Option<String> {
        let whole = self.whole.filter(|whole| self.is_finished() && self.step < *whole)?;
        Some(cut(self.step, whole))
    }
}

/// Says in words that `optim.max_steps` ended a run after `step` of `whole` steps.
pub fn cut(step: u64, whole: u64) -> String {
    format!("stopped at step {step} of {whole} by --max-steps")
}

/// The time that a step takes; none before the second record, or where time does not advance.
fn seconds_per_step(records: &[Record]) -> Option<f64> {
    let recent = &records[records.len().saturating_sub(RECENT)..];
    let (first, last) = (recent.first()?, recent.last()?);
    let steps = last.step.checked_sub(first.step).filter(|n| *n > 0)?;
    Some((last.number("seconds") - first.number("seconds")) / steps as f64).filter(|s| *s > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    #[test]
    fn time_left_follows_the_newest_speed() {
        let outline = Outline { epochs: Some(3), ..Outline::default() };
        // 100 steps per epoch, 0.3 seconds per step.
        let mut records: Vec<Record> = (1..=150).map(record).collect();
        let p = Progress::of(&outline, &records);
        assert_eq!((p.step, p.steps, p.is_finished()), (150, Some(300), false));
        assert!((p.seconds_left.unwrap() - 45.0).abs() < 1e-6);
        // It becomes twice as slow: soon only that counts.
        records.extend((151..=250).map(|s| record(s).with("seconds", 45.0 + (s - 150) as f64 * 0.6)));
        let p = Progress::of(&outline, &records);
        assert!((p.seconds_left.unwrap() - 30.0).abs() < 1e-6);
    }

    #[test]
    fn a_limit_ends_a_run_early() {
        let outline = Outline { epochs: Some(3), max_steps: Some(120), ..Outline::default() };
        let p = Progress::of(&outline, &[record(119), record(120)]);
        assert!(p.is_finished());
        assert_eq!((p.steps, p.seconds_left), (Some(120), Some(0.0)));
        assert_eq!(p.cut().as_deref(), Some("stopped at step 120 of 300 by --max-steps"));
        assert_eq!(Progress::of(&outline, &[record(119)]).cut(), None);
        let whole = Progress::of(&Outline { max_steps: None, ..outline }, &[record(300)]);
        assert_eq!((whole.is_finished(), whole.cut()), (true, None));
    }

    #[test]
    fn without_settings_or_records_nothing_is_claimed() {
        assert_eq!(Progress::of(&Outline::default(), &[]), Progress::default());
        let p = Progress::of(&Outline::default(), &[record(1), record(2)]);
        assert_eq!((p.steps, p.seconds_left, p.is_finished()), (None, None, false));
        let outline = Outline { epochs: Some(3), ..Outline::default() };
        assert_eq!(Progress::of(&outline, &[record(1).with("epoch", f64::NAN)]).steps, None);
        assert_eq!(Progress::of(&outline, &[record(1).with("seconds", f64::NAN), record(2)]).seconds_left, None);
    }
}
