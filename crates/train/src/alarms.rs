//! Alarms in plain words, from the numbers of the log.
//!
//! Each alarm looks at a condition that a healthy run does not meet for [`PATIENCE`] steps in a row, and speaks once
//! until the condition has ended. The thresholds are explained in `docs/running.md`.

use crate::Config;
use crate::sheet::LEAST_SPREAD;
use selfpatch_losses::SPREAD_ROWS;
use selfpatch_run::{Alarm, Record};
use std::collections::VecDeque;

/// Steps in a row for which a condition must hold.
pub const PATIENCE: u32 = 10;

/// Steps over which a loss that stands still is told from one that moves.
const WINDOW: usize = 100;

/// What the alarms remember from step to step.
#[derive(Clone, Debug)]
pub struct Alarms {
    /// Entropy of a teacher, and class loss of a student, that tells nothing apart: ln K.
    log_classes: f64,
    /// The whole loss of a student that knows nothing.
    ignorance: f64,
    /// Global views whose features are looked at together; few of them lie on one line in any run.
    views: usize,
    /// Epochs of warm-up, during which a loss may stand still.
    warmup: f64,
    /// For how many steps in a row each of [`conditions`](Self::conditions) has held.
    held: [u32; 8],
    /// Loss, divergence and agreement of the last steps at full rate.
    recent: VecDeque<[f64; 3]>,
    /// Losses of the last [`PATIENCE`] steps.
    losses: VecDeque<f64>,
}

impl Alarms {
    /// Alarms for the objectives of `config`.
    pub fn new(config: &Config) -> Self {
        let log_classes = (config.head.out_dim as f64).ln();
        let patches = config.patch_loss.lambda * (config.head.out_dim_selfpatch as f64).ln();
        Self {
            log_classes,
            ignorance: log_classes + patches,
            views: 2 * config.optim.batch_size.div_ceil(config.optim.accumulate.max(1)),
            warmup: config.optim.warmup_epochs,
            held: [0; 8],
            recent: VecDeque::new(),
            losses: VecDeque::new(),
        }
    }

    /// The alarms to be raised after the step of `record`.
    pub fn observe(&mut self, record: &Record) -> Vec<Alarm> {
        // A step that was left out has no numbers, and an alarm of its own.
        let loss = record.number("train_loss");
        if !loss.is_finite() {
            return Vec::new();
        }
        push(&mut self.losses, loss, PATIENCE as usize);
        if record.number("epoch") > self.warmup {
            let or_zero = |name: &str| record.get(name).unwrap_or(0.);
            let values = [loss, or_zero("teacher_student_kl"), or_zero("patch_agreement")];
            push(&mut self.recent, values, WINDOW);
        }
        let mut alarms = Vec::new();
        for (i, (holds, kind, text)) in self.conditions(record).into_iter().enumerate() {
            self.held[i] = if holds { self.held[i].saturating_add(1) } else { 0 };
            if self.held[i] == PATIENCE {
                alarms.push(Alarm { step: record.step, kind: kind.into(), text });
            }
        }
        alarms
    }

    fn conditions(&self, r: &Record) -> [(bool, &'static str, String); 8] {
        let entropy = r.number("teacher_entropy") / self.log_classes;
        let used = r.get("prototypes_used").unwrap_or(1.);
        let std = r.get("feature_std").unwrap_or(1.);
        let rank = r.get("feature_rank").unwrap_or(f64::INFINITY);
        let loss = self.losses.iter().sum::<f64>() / self.losses.len().max(1) as f64;
        let from_ignorance = (r.number("train_clsloss") / self.log_classes - 1.).abs();
        [
            (
                entropy > 0.99,
                "collapse",
                format!(
                    "the teacher gives every prototype the same chance (entropy {:.3} of at most {:.3}), so nothing can \
                     be learned from it: lower objective.teacher_temp (0.04 to 0.07 is usual)",
                    entropy * self.log_classes,
                    self.log_classes
                ),
            ),
            (
                entropy < 0.01 && (used < 0.1 || std < 0.05),
                "collapse",
                "the teacher gives one and the same prototype to every image (entropy near 0): lower \
                 objective.center_momentum (0.9 is usual) or raise objective.teacher_temp"
                    .into(),
            ),
            (
                std < 0.02,
                "collapse",
                format!(
                    "the teacher's features of all images are alike (spread {std:.4}; a healthy run has at least {LEAST_SPREAD}): begin \
                     again with a lower optim.lr, and check that the images differ"
                ),
            ),
            (
                self.views >= 8 && rank < 1.1 && std >= 0.02,
                "collapse",
                format!(
                    "the teacher's features of all images lie on one line (rank {rank:.2} of {} that are possible): begin \
                     again with a lower optim.lr, and check that the images differ",
                    self.views.min(SPREAD_ROWS)
                ),
            ),
            (
                loss > 1.3 * self.ignorance,
                "divergence",
                format!(
                    "the loss ({loss:.2}) is far above that of a student that knows nothing ({:.2}): begin again with a \
                     lower optim.lr or a longer optim.warmup_epochs",
                    self.ignorance
                ),
            ),
            (
                r.number("train_lr") == 0.,
                "stuck",
                "the learning rate is 0, so the weights do not move: raise optim.lr".into(),
            ),
            (
                from_ignorance < 0.001,
                "stuck",
                format!(
                    "the class loss stands at ln K = {:.3}, what a student has that tells nothing apart: check \
                     objective.student_temp (0.1 is usual), then optim.lr",
                    self.log_classes
                ),
            ),
            (
                self.stands_still(),
                "stuck",
                format!(
                    "nothing has changed over {WINDOW} steps: the loss stays at {loss:.3}, and the student is as far from \
                     the teacher as before: raise optim.lr"
                ),
            ),
        ]
    }

    /// Whether the newer half of the window looks like the older one while the student still does not follow the
    /// teacher at all; a loss that has come to rest after learning does not count.
    fn stands_still(&self) -> bool {
        if self.recent.len() < WINDOW {
            return false;
        }
        let half = |range: std::ops::Range<usize>, i: usize| {
            let values: Vec<f64> = self.recent.range(range).map(|v| v[i]).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
            (mean, variance)
        };
        let means = |i: usize| (half(0..WINDOW / 2, i), half(WINDOW / 2..WINDOW, i));
        let ((old_loss, old_spread), (new_loss, new_spread)) = means(0);
        let error = ((old_spread + new_spread) / (WINDOW / 2) as f64).sqrt();
        let ((old_kl, _), (new_kl, _)) = means(1);
        let ((old_agreement, _), (new_agreement, _)) = means(2);
        (new_loss - old_loss).abs() <= 2. * error
            && (new_kl - old_kl).abs() < 0.1 * old_kl
            && new_kl > 0.3 * self.log_classes
            && new_agreement < 0.2
            && (new_agreement - old_agreement).abs() < 0.02
    }
}

fn push<T>(queue: &mut VecDeque<T>, value: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    /// A step of a healthy run of the default recipe.
    fn healthy(step: u64) -> Record {
        let noise = (step as f64 * 2.4).sin();
        let learned = 1. / (1. + step as f64 / 60.);
        [
            ("epoch", step as f64 / 640.),
            ("train_loss", 3. + 2.3 * learned + 0.3 * noise),
            ("train_clsloss", 2.8 + 1.8 * learned + 0.3 * noise),
            ("train_lr", 1e-4),
            ("teacher_entropy", 2. + 0.4 * noise),
            ("teacher_student_kl", 0.8 + 1.8 * learned),
            ("prototypes_used", 0.28),
            ("feature_std", 0.5),
            ("feature_rank", 2.4),
            ("patch_agreement", 0.84 - 0.8 * learned),
        ]
        .into_iter()
        .fold(Record::new(step), |r, (name, value)| r.with(name, value))
    }

    /// The alarms of 300 steps, each healthy one changed from step 100 on.
    fn heard(change: &[(&'static str, f64)]) -> Vec<(u64, String)> {
        let mut alarms = Alarms::new(&Preset::Default.config());
        let mut all = Vec::new();
        for step in 1..=300 {
            let mut record = healthy(step);
            if step >= 100 {
                change.iter().for_each(|&(name, value)| record.numbers.set(name, value));
            }
            all.extend(alarms.observe(&record).into_iter().map(|a| (a.step, a.kind)));
        }
        all
    }

    #[test]
    fn each_illness_is_told_once_and_soon_and_health_never() {
        for (kind, change) in [
            ("collapse", &[("teacher_entropy", 6.23)][..]),
            ("collapse", &[("teacher_entropy", 0.001), ("prototypes_used", 1. / 32.)]),
            ("collapse", &[("feature_std", 1e-3)]),
            // What --lr 5 does to the default recipe.
            ("collapse", &[("feature_std", 0.14), ("feature_rank", 1.0)]),
            ("divergence", &[("train_loss", 30.)]),
            ("stuck", &[("train_lr", 0.)]),
            ("stuck", &[("train_clsloss", 512f64.ln() + 0.002)]),
        ] {
            let heard = heard(change);
            assert!(heard.len() == 1 && heard[0].1 == kind && heard[0].0 <= 120, "{kind}: {heard:?}");
        }
        assert!(heard(&[]).is_empty());
        assert!(heard(&[("teacher_entropy", 0.001)]).is_empty(), "a sharp teacher is no collapse");
    }

    #[test]
    fn a_loss_that_never_moved_is_told_from_one_at_rest() {
        let mut alarms = Alarms::new(&Preset::Default.config());
        let mut told = Vec::new();
        for step in 1..=300 {
            let noise = (step as f64 * 2.4).sin();
            let r = healthy(step).with("train_loss", 5.4 + 0.3 * noise);
            told.extend(alarms.observe(&r.with("teacher_student_kl", 2.5).with("patch_agreement", 0.05)));
        }
        assert!(told.len() == 1 && told[0].kind == "stuck" && told[0].step < 64 + 120, "{told:?}");
    }
}
