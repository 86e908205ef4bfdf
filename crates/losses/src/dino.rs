//! DINO's image objective.

use crate::Center;
use candle_core::{DType, Device, Result, Tensor, bail};
use selfpatch_nn::ops;

/// Which of the teacher's views move the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CenterViews {
    /// All of them: SelfPatch, whose teacher also sees the local crops (QUIRKS 8, 10).
    #[default]
    All,
    /// Global views only: the original DINO.
    Globals,
}

/// The teacher's logits as far as the loss needs them.
#[derive(Clone, Debug)]
pub struct TeacherViews {
    /// The targets, `[G, B, K]`.
    pub globals: Tensor,
    /// Sum of the logits of all other views, `[1, K]`, and their number: they only move the centre, and
    /// the prototypes being linear, the sum costs one row instead of all.
    pub others: Option<(Tensor, usize)>,
}

impl TeacherViews {
    /// Of the logits of all views, `[V, B, K]`, the first `globals` being global.
    pub fn of(teacher: &Tensor, globals: usize) -> Result<Self> {
        let (v, b, k) = teacher.dims3()?;
        if globals > v {
            bail!("{globals} global views among {v}")
        }
        let others = (v - globals) * b;
        let sum = || ops::sum_rows(&teacher.narrow(0, globals, v - globals)?.reshape((others, k))?);
        let others = (others > 0).then(|| sum().map(|sum| (sum, others))).transpose()?;
        Ok(Self { globals: teacher.narrow(0, 0, globals)?, others })
    }
}

/// What one call of [`Dino::loss`] gives.
#[derive(Clone, Debug)]
pub struct DinoTerm {
    /// A scalar, with gradient to the student's logits.
    pub loss: Tensor,
    /// Mean of the teacher's rows, `[1, K]`: what moves the centre.
    pub teacher_mean: Tensor,
    /// Mean entropy (nats) of the teacher's sharpened outputs on the global views, a scalar. `ln K` means
    /// that it tells nothing apart; a low value alone is no alarm, a sharp teacher has it too.
    pub teacher_entropy: Tensor,
}

/// Cross-entropy between each global teacher view and every other student view.
#[derive(Clone, Debug)]
pub struct Dino {
    /// Temperature of the student; 0.1.
    pub student_temp: f64,
    /// Number of leading views that are global, that is, targets; 2.
    pub globals: usize,
    /// Which views move the centre.
    pub center_views: CenterViews,
    center: Center,
}

impl Dino {
    /// DINO's published settings for `classes` prototypes.
    pub fn new(classes: usize, center_momentum: f64, dtype: DType, device: &Device) -> Result<Self> {
        Ok(Self {
            student_temp: 0.1,
            globals: 2,
            center_views: CenterViews::All,
            center: Center::new(classes, center_momentum, dtype, device)?,
        })
    }

    /// Mean cross-entropy over all pairs (global teacher view, other student view) and images.
    ///
    /// `student [V, B, K]` logits; the centre before this step's update is used.
    pub fn loss(&self, student: &Tensor, teacher: &TeacherViews, teacher_temp: f64) -> Result<DinoTerm> {
        let (views, b, k) = student.dims3()?;
        let g = self.globals;
        if teacher.globals.dims() != [g, b, k] || views < g || views < 2 {
            let got = teacher.globals.dims();
            bail!("DINO needs {g} global views of {b} images and more student views than one; got {got:?} and {views}")
        }
        let globals = teacher.globals.reshape((g * b, k))?;
        let (targets, teacher_entropy) = ops::sharpened(&globals, self.center.value(), teacher_temp)?;
        // A student view is matched with all global views but itself.
        let pairs: Vec<Vec<usize>> = (0..views * b)
            .map(|row| (0..g).filter(|&view| view != row / b).map(|view| view * b + row % b).collect())
            .collect();
        let weights = vec![1. / (g * (views - 1) * b) as f64; views * b];
        let student = student.reshape((views * b, k))?;
        let loss = ops::paired_cross_entropy(&student, &targets, &pairs, &weights, self.student_temp)?;
        let sum = ops::sum_rows(&globals)?;
        let teacher_mean = match (&teacher.others, self.center_views) {
            (Some((others, rows)), CenterViews::All) => ((sum + others)? / (g * b + rows) as f64)?,
            _ => (sum / (g * b) as f64)?,
        };
        Ok(DinoTerm { loss, teacher_mean, teacher_entropy })
    }

    /// Moves the centre by the mean of the teacher's logits; once per step, after the loss.
    pub fn commit(&mut self, teacher_mean: &Tensor) -> Result<()> {
        self.center.update(teacher_mean)
    }

    /// The centre, `[1, K]`.
    pub fn center(&self) -> &Center {
        &self.center
    }

    /// The centre, to be restored when a run is resumed.
    pub fn center_mut(&mut self) -> &mut Center {
        &mut self.center
    }
}
