//! DINO's image objective.

use crate::objective::{At, Branches, Objective, Piece, Sign, Term, Update};
use crate::plan::{Freeze, Head, Moves, NormOver, Plan, Target, Views};
use crate::spread::{deviation_and_rank, spread};
use crate::{Center, teacher_temperature};
use candle_core::{D, DType, Device, Result, Tensor, bail};
use selfpatch_nn::ops::{self, Projected, sum_rows};
use std::collections::{BTreeMap, HashSet};

/// Which of the teacher's views move the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CenterViews {
    /// All views: SelfPatch, whose teacher also sees the local crops (QUIRKS 8, 10).
    #[default]
    All,
    /// Global views only: the original DINO.
    Globals,
}

/// The teacher's logits as far as the loss needs them.
#[derive(Clone, Debug)]
pub struct TeacherViews {
    /// Logits of the global views, which are the targets, `[G, B, K]`.
    pub globals: Tensor,
    /// Sum of the logits of all other views, `[1, K]`, and the number of summed rows. They only move the centre, and
    /// the prototypes being linear, the sum costs one row instead of all.
    pub others: Option<(Tensor, usize)>,
}

impl TeacherViews {
    /// The teacher's views, from the logits of all views, `[V, B, K]`, the first `globals` being global.
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

/// What one call of [`Dino::loss_of_logits`] gives.
#[derive(Clone, Debug)]
pub struct DinoTerm {
    /// The loss, a scalar, with gradient to the student's logits.
    pub loss: Tensor,
    /// Mean of the teacher's rows, `[1, K]`: what moves the centre.
    pub teacher_mean: Tensor,
    /// Mean entropy (nats) of the teacher's sharpened outputs on the global views, a scalar. `ln K` means
    /// that the teacher tells nothing apart; a low value alone is no alarm, a sharp teacher has it too.
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
    /// Temperature of the teacher.
    pub temperature: Temperature,
    /// Epochs during which the prototypes stay as they are.
    pub freeze_epochs: usize,
    center: Center,
}

/// Temperature of the teacher over the epochs: linear over a warm-up, then constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// Temperature at the start.
    pub warmup: f64,
    /// Temperature after the warm-up.
    pub last: f64,
    /// Epochs of the warm-up.
    pub warmup_epochs: usize,
}

impl Temperature {
    /// One temperature in all epochs.
    pub fn constant(value: f64) -> Self {
        Self { warmup: value, last: value, warmup_epochs: 0 }
    }

    /// The temperature in `epoch`, counted from 0.
    pub fn at(&self, epoch: usize) -> f64 {
        teacher_temperature(self.warmup, self.last, self.warmup_epochs, epoch)
    }
}

/// Number of logits up to which local views are not summed before the prototypes.
const SMALL_PRODUCT: usize = 4096;

impl Dino {
    /// DINO's published settings for `classes` prototypes.
    pub fn new(classes: usize, center_momentum: f64, dtype: DType, device: &Device) -> Result<Self> {
        Ok(Self {
            student_temp: 0.1,
            globals: 2,
            center_views: CenterViews::All,
            temperature: Temperature::constant(0.04),
            freeze_epochs: 0,
            center: Center::new(classes, center_momentum, dtype, device)?,
        })
    }

    /// Mean cross-entropy over all pairs (global teacher view, other student view) and images.
    ///
    /// `student [V, B, K]` logits; the centre before this step's update is used.
    pub fn loss_of_logits(&self, student: &Tensor, teacher: &TeacherViews, teacher_temp: f64) -> Result<DinoTerm> {
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

    /// The centre, `[1, K]`.
    pub fn center(&self) -> &Center {
        &self.center
    }

    /// The centre, to be restored when a run is resumed.
    pub fn center_mut(&mut self) -> &mut Center {
        &mut self.center
    }
}

/// The teacher's logits as far as the loss needs them, of rows before their prototypes. The rows of local views, which
/// only move the centre, are summed before the prototypes, which are linear.
fn teacher_views(target: &Projected, globals: usize, images: usize) -> Result<TeacherViews> {
    let (count, used) = (target.rows.dim(0)?, globals * images);
    if count < used {
        bail!("{count} rows of the teacher for {globals} global views of {images} images")
    }
    // Small products save nothing and round in another way than the student's do.
    let is_summed = count > used && (used + 1) * target.weight_v.dim(0)? > SMALL_PRODUCT;
    let rows = match is_summed {
        true => {
            let others = sum_rows(&target.rows.narrow(0, used, count - used)?)?;
            Tensor::cat(&[&target.rows.narrow(0, 0, used)?, &others], 0)?
        }
        false => target.rows.clone(),
    };
    let logits = ops::prototypes(&rows, &target.weight_v, &target.weight_g)?;
    let k = logits.dim(1)?;
    let others =
        || Ok::<_, candle_core::Error>((sum_rows(&logits.narrow(0, used, rows.dim(0)? - used)?)?, count - used));
    let others = (count > used).then(others).transpose()?;
    Ok(TeacherViews { globals: logits.narrow(0, 0, used)?.reshape((globals, images, k))?, others })
}

/// Numbers that tell whether a training with DINO's loss is well; `rows`: the teacher's, before their prototypes.
///
/// # Errors
/// When the rows are fewer than the global views.
pub fn signs(term: &DinoTerm, teacher: &TeacherViews, rows: &Tensor) -> Result<Vec<Sign>> {
    let (globals, images, k) = teacher.globals.dims3()?;
    let views = globals * images;
    let used = move |winners: &[f64]| {
        let different: HashSet<u64> = winners.iter().map(|v| *v as u64).collect();
        vec![different.len() as f64 / views.min(k) as f64]
    };
    let loss = term.loss.detach().to_dtype(term.teacher_entropy.dtype())?;
    Ok(vec![
        Sign {
            names: &["teacher_entropy", "teacher_student_kl"],
            values: Tensor::stack(&[&term.teacher_entropy, &loss], 0)?,
            read: Box::new(|v| vec![v[0], v[1] - v[0]]),
        },
        Sign { names: &["prototypes_used"], values: teacher.globals.argmax(D::Minus1)?, read: Box::new(used) },
        Sign {
            names: &["feature_std", "feature_rank"],
            values: spread(&rows.narrow(0, 0, views)?)?,
            read: Box::new(deviation_and_rank),
        },
    ])
}

impl Objective for Dino {
    fn plan(&self) -> Plan {
        Plan {
            online: Views::All,
            target: Target::Average { views: Views::All, moves: Moves::AfterStep },
            projector: Head::Dino,
            predictor: None,
            freeze: vec![Freeze { of: "last_layer", until: Some(self.freeze_epochs) }],
            norm: NormOver::All,
            unit_prototypes: false,
            whole_batch: false,
        }
    }

    fn loss(&self, rows: &Branches, at: At) -> Result<Term> {
        let Some(target) = &rows.target else { bail!("DINO needs the rows of a teacher") };
        if rows.globals != self.globals {
            bail!("DINO was made for {} global views, not {}", self.globals, rows.globals)
        }
        let (images, target) = (rows.images, target.projected()?);
        let logits = rows.online.projected()?.logits()?;
        let (count, k) = logits.dims2()?;
        let teacher = teacher_views(target, self.globals, images)?;
        let student = logits.reshape((count / images.max(1), images, k))?;
        let term = self.loss_of_logits(&student, &teacher, self.temperature.at(at.epoch))?;
        let numbers = signs(&term, &teacher, &target.rows)?;
        Ok(Term { loss: term.loss, update: Update::default().with("class", Piece::Mean(term.teacher_mean)), numbers })
    }

    fn commit(&mut self, update: &Update) -> Result<()> {
        self.center.update(update.get("class")?)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        vec![("class".into(), self.center.value().clone())]
    }

    fn load(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        match state.get("class") {
            Some(center) => self.center.set(center),
            None => bail!("there is no class centre"),
        }
    }
}
