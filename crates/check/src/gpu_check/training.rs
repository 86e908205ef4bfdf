//! Trains the default recipe for some steps, and compares the losses with those of the CPU in f32.

use anyhow::{Result, bail};
use candle_core::Device;
use selfpatch_run::{Event, Resume, Session};
use selfpatch_train::config::Precision;
use selfpatch_train::{Preset, run};
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The loss of each step of a run of the program itself, in a folder that is removed afterwards.
pub fn losses(precision: Precision, steps: usize, folder: &Path, device: &Device) -> Result<Vec<f64>> {
    let mut config = Preset::Default.config();
    config.output_dir = folder.to_path_buf();
    config.optim.precision = precision;
    config.optim.max_steps = Some(steps);
    let (stop, mut losses) = (AtomicBool::new(false), Vec::with_capacity(steps));
    let session = Session { overwrite: true, resume: Resume::Never, overrides: &[], asked: &[], stop: &stop };
    let outcome = run(&config, &session, device, &mut |_, _| Err("not measured".into()), |event| {
        if let Event::Step(record) = event {
            losses.push(record.number("train_loss"));
        }
    });
    let _ = std::fs::remove_dir_all(folder);
    outcome?;
    match losses.len() {
        n if n == steps => Ok(losses),
        n => bail!("{n} of {steps} steps were taken"),
    }
}

/// A curve as a worker tells it: JSON has no word for a non-finite loss.
pub fn finite(losses: Vec<Option<f64>>) -> Result<Vec<f64>, String> {
    let known =
        |(i, loss): (usize, Option<f64>)| loss.ok_or_else(|| format!("the loss of step {} is non-finite", i + 1));
    losses.into_iter().enumerate().map(known).collect()
}

/// Rule for when two curves are the same training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// Each loss is the mean of this many steps before it is compared.
    pub mean_of: usize,
    /// Number of first steps that `relative` applies to.
    pub first_steps: usize,
    /// Largest difference in the first steps, as a part of the loss.
    pub relative: f64,
    /// Largest mean absolute difference over all steps.
    pub mean_absolute: f64,
}

/// Rounding alone lets two runs drift apart, slowly: in f32 the first steps must agree closely, the rest on the whole.
const F32: Rule = Rule { mean_of: 1, first_steps: 50, relative: 1e-4, mean_absolute: 2e-3 };
/// Half precision rounds each number to 2 or 3 digits: its curve must be the same once it is smooth.
const HALF: Rule = Rule { mean_of: 20, first_steps: usize::MAX, relative: 2e-2, mean_absolute: 5e-2 };

impl Rule {
    /// The rule of a precision.
    pub fn of(precision: Precision) -> Self {
        if precision == Precision::F32 { F32 } else { HALF }
    }
}

/// How far a curve is from the CPU's.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Precision that the curve was computed in.
    pub precision: Precision,
    /// Rule that the curve is held to.
    pub rule: Rule,
    /// The largest difference in the first steps, as a part of the loss.
    pub largest_relative: f64,
    /// The mean difference of all steps.
    pub mean_absolute: f64,
    /// Whether both differences are within the rule.
    pub passed: bool,
    /// Losses of the curve.
    pub losses: Vec<f64>,
}

impl Comparison {
    /// Compares curves of one length.
    pub fn of(precision: Precision, losses: Vec<f64>, cpu: &[f64]) -> Self {
        let rule = Rule::of(precision);
        let pairs: Vec<(f64, f64)> = smooth(&losses, rule.mean_of).zip(smooth(cpu, rule.mean_of)).collect();
        let relative = pairs.iter().take(rule.first_steps).map(|(a, b)| (a - b).abs() / b.abs());
        // A NaN must not pass as "not larger".
        let largest_relative = relative.fold(0., |m: f64, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
        let mean_absolute = pairs.iter().map(|(a, b)| (a - b).abs()).sum::<f64>() / pairs.len() as f64;
        let passed =
            losses.len() == cpu.len() && largest_relative <= rule.relative && mean_absolute <= rule.mean_absolute;
        Self { precision, rule, largest_relative, mean_absolute, passed, losses }
    }
}

/// Means of `n` values each.
fn smooth(values: &[f64], n: usize) -> impl Iterator<Item = f64> {
    let n = n.min(values.len()).max(1);
    values.windows(n).map(move |part| part.iter().sum::<f64>() / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(precision: Precision, change: impl Fn(usize) -> f64) -> bool {
        let cpu: Vec<f64> = (0..200).map(|i| 7. - 0.01 * i as f64).collect();
        let other = cpu.iter().enumerate().map(|(i, loss)| loss * (1. + change(i))).collect();
        Comparison::of(precision, other, &cpu).passed
    }

    #[test]
    fn early_steps_must_agree_closely_and_later_ones_on_the_whole() {
        assert!(compared(Precision::F32, |_| 0.));
        assert!(compared(Precision::F32, |i| if i < 50 { 5e-5 } else { 3e-4 }));
        assert!(!compared(Precision::F32, |i| if i == 49 { 2e-4 } else { 0. }));
        assert!(!compared(Precision::F32, |i| if i < 50 { 0. } else { 1e-3 }));
        assert!(!compared(Precision::F32, |i| if i == 120 { f64::NAN } else { 0. }));
    }

    #[test]
    fn a_loss_that_is_non_finite_is_named() -> Result<(), serde_json::Error> {
        let curve = |losses: &[f64]| Ok(finite(serde_json::from_value(serde_json::to_value(losses)?)?));
        assert_eq!(curve(&[5.5, 4.])?, Ok(vec![5.5, 4.]));
        assert_eq!(curve(&[5.5, f64::NAN])?, Err("the loss of step 2 is non-finite".into()));
        Ok(())
    }

    #[test]
    fn half_precision_may_be_noisy_but_not_biased() {
        assert!(compared(Precision::Bf16, |i| if i % 2 == 0 { 5e-3 } else { -5e-3 }));
        assert!(!compared(Precision::Bf16, |i| if i > 150 { 3e-2 } else { 0. }));
        assert!(!compared(Precision::Bf16, |i| if i == 3 { f64::NAN } else { 0. }));
    }
}
