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
    /// `student [V, B, K]`, `teacher [G.., B, K]` (at least the global views), both logits; the
    /// centre before this step's update is used. A scalar with gradient to `student`.
    pub fn loss(&self, student: &Tensor, teacher: &Tensor, teacher_temp: f64) -> Result<Tensor> {
        let (views, b, k) = student.dims3()?;
        let g = self.globals;
        if teacher.dim(0)? < g || views < g || views < 2 {
            bail!("DINO needs {g} global views and one more view than one; got {views} student views")
        }
        let targets = self.center.sharpen(&teacher.narrow(0, 0, g)?.reshape((g * b, k))?, teacher_temp)?;
        let targets = targets.reshape((g, b, k))?;
        // A student view is matched with the sum of all targets but its own.
        let sum = targets.sum_keepdim(0)?;
        let mut matched = vec![sum.broadcast_sub(&targets)?];
        if views > g {
            matched.push(sum.broadcast_as((views - g, b, k))?);
        }
        let matched = Tensor::cat(&matched, 0)?.reshape((views * b, k))?;
        let rows = ops::soft_cross_entropy(&student.reshape((views * b, k))?, &matched, self.student_temp)?;
        rows.sum_all()? / (g * (views - 1) * b) as f64
    }

    /// Moves the centre by the teacher's logits `[V, B, K]`; once per step, after the loss.
    pub fn commit(&mut self, teacher: &Tensor) -> Result<()> {
        let (views, b, k) = teacher.dims3()?;
        let used = match self.center_views {
            CenterViews::All => views,
            CenterViews::Globals => self.globals,
        };
        self.center.update(&teacher.narrow(0, 0, used)?.reshape((used * b, k))?)
    }

    /// The centre, `[1, K]`.
    pub fn center(&self) -> &Center {
        &self.center
    }

    /// The centre, to be restored when a run is resumed.
    pub fn center_mut(&mut self) -> &mut Center {
        &mut self.center
    }

    /// Mean entropy (nats) of the teacher's sharpened outputs on the global views. `ln K` means that
    /// it tells nothing apart; a low value alone is no alarm, a sharp teacher has it too.
    pub fn teacher_entropy(&self, teacher: &Tensor, teacher_temp: f64) -> Result<f64> {
        let (_, b, k) = teacher.dims3()?;
        let rows = teacher.narrow(0, 0, self.globals)?.reshape((self.globals * b, k))?;
        let p = self.center.sharpen(&rows, teacher_temp)?;
        let plogp = (&p * (&p + 1e-12)?.log()?)?;
        plogp.sum(1)?.mean_all()?.neg()?.to_dtype(DType::F64)?.to_scalar()
    }
}
