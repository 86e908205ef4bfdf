//! What an image-level objective is to a trainer.
//!
//! An objective owns no network. It says what it needs ([`Plan`]), is handed rows ([`Branches`]), and gives a loss.
//! Checked on paper against the methods that the paper's field uses; each cell is the value of that field:
//!
//! | | online | target | projector | predictor | update | norm | else |
//! |---|---|---|---|---|---|---|---|
//! | DINO | `All` | `Average`, `All`, `AfterStep` | `Dino` | – | centre: `Mean` | – | `freeze` the last layer at first |
//! | MoBY | `Globals` | `Average`, `Globals`, `BeforeTarget` | `Mlp` | `Mlp` | two queues: `Rows` | `View` | |
//! | MoCo v1, v2 | `One(0)` | `Average`, `One(1)`, `BeforeTarget` | `Mlp` of 1, 2 layers | – | queue: `Rows` | – | |
//! | MoCo v3 | `Globals` | `Average`, `Globals`, `BeforeTarget` | `Mlp`, last norm without affine | `Mlp` | – | `View` | `whole_batch`; `freeze` the patch projection for good |
//! | BYOL | `Globals` | `Average`, `Globals`, `AfterStep` | `Mlp` | `Mlp` | – | `View` | |
//! | SimSiam | `Globals` | `StopGradient` | `Mlp`, last norm without affine | `Mlp` | – | `View` | |
//! | SimCLR | `Globals` | `None` | `Mlp`, last norm with gain alone | – | – | `All` | `whole_batch` |
//! | SwAV | `All` | `StopGradient` | `Mlp` with `prototypes` | – | queue: `Rows` | `All` | `whole_batch`; `unit_prototypes`; `freeze` them at first |
//!
//! A batch norm inside a backbone is the backbone's own affair. The momentum of the average, its schedule, the
//! optimiser and the fixed positions of MoCo v3 are settings of a run, not of an objective.

use crate::plan::Plan;
use candle_core::{Result, Tensor, bail};
use selfpatch_nn::ops::Projected;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A loss on whole images.
///
/// `loss` reads state and never writes it; `commit` writes it once per step, after the loss, with what the parts of the
/// batch (and the ranks) came to together.
pub trait Objective: Send {
    /// What the objective needs of the trainer.
    fn plan(&self) -> Plan;

    /// The loss of some images.
    ///
    /// # Errors
    /// When the rows are not those of the plan.
    fn loss(&self, rows: &Branches, at: At) -> Result<Term>;

    /// Moves centres and queues.
    ///
    /// # Errors
    /// When the update is not one of this objective.
    fn commit(&mut self, update: &Update) -> Result<()>;

    /// State that must be kept to continue a run: named tensors.
    fn state(&self) -> Vec<(String, Tensor)>;

    /// Takes back what [`Objective::state`] gave, from any device.
    ///
    /// # Errors
    /// When a name is missing or a shape does not fit.
    fn load(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;
}

/// Where in a run a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// The step, counted from 0.
    pub step: usize,
    /// The epoch, counted from 0.
    pub epoch: usize,
}

/// What the networks made of some images: rows by view, then image. The first views are the global ones.
#[derive(Clone, Debug)]
pub struct Branches {
    /// Images, B.
    pub images: usize,
    /// Global views, G.
    pub globals: usize,
    /// Rows of the trained network: of its predictor if the plan has one, else of its projector.
    pub online: HeadOutput,
    /// Rows that the online rows are compared with, of a projector, without gradient; `None` where the plan wants none.
    pub target: Option<HeadOutput>,
}

/// What a head made of V views of B images.
#[derive(Clone, Debug)]
pub enum HeadOutput {
    /// Rows `[V * B, D]` of a head without prototypes.
    Plain(Tensor),
    /// Rows `[V * B, D]` of unit length, with weight-normed prototypes, from which the objective makes the logits it
    /// needs ([`Head::Dino`](crate::Head::Dino)).
    Projected(Projected),
    /// Rows `[V * B, D]` of unit length, and the weight of linear prototypes, `[K, D]` (an [`Mlp`](crate::Mlp) that has
    /// prototypes).
    Scored {
        /// Rows before the prototypes.
        rows: Tensor,
        /// The prototypes.
        weight: Tensor,
    },
}

impl HeadOutput {
    /// The rows of a head with weight-normed prototypes.
    ///
    /// # Errors
    /// When the head has no such prototypes.
    pub fn projected(&self) -> Result<&Projected> {
        match self {
            Self::Projected(rows) => Ok(rows),
            Self::Plain(_) | Self::Scored { .. } => bail!("an objective with logits needs a head of DINO's kind"),
        }
    }
}

/// The outcome of a loss: its value, what moves the state, and numbers for the log.
pub struct Term {
    /// The loss, a scalar, with gradient to the rows of the trained network.
    pub loss: Tensor,
    /// What moves the state of the objective.
    pub update: Update,
    /// Numbers for the log.
    pub numbers: Vec<Sign>,
}

/// Makes numbers of values that were read from the device.
pub type Read = Box<dyn Fn(&[f64]) -> Vec<f64> + Send>;

/// Numbers for the log, which are on the device until all are read at once.
pub struct Sign {
    /// Names in the log.
    pub names: &'static [&'static str],
    /// Values that the numbers are made of, without gradient.
    pub values: Tensor,
    /// Makes one number for each name out of the values.
    pub read: Read,
}

/// What moves the state of an objective, by name.
#[derive(Clone, Debug, Default)]
pub struct Update(Vec<(&'static str, Piece)>);

/// One piece of an [`Update`].
#[derive(Clone, Debug)]
pub enum Piece {
    /// A mean over images; parts are joined by the mean weighted by their images.
    Mean(Tensor),
    /// Rows of images; parts are joined one after the other.
    Rows(Tensor),
}

impl Update {
    /// The update with one more piece.
    pub fn with(mut self, name: &'static str, piece: Piece) -> Self {
        self.0.push((name, piece));
        self
    }

    /// The piece called `name`.
    ///
    /// # Errors
    /// When there is no such piece.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        match self.0.iter().find(|(n, _)| *n == name) {
            Some((_, Piece::Mean(t) | Piece::Rows(t))) => Ok(t),
            None => bail!("an update without {name}"),
        }
    }

    /// The update of a part of the images, `share` of all, scaled to be added to those of the other parts.
    ///
    /// # Errors
    /// When a tensor cannot be scaled.
    pub fn scaled(self, share: f64) -> Result<Self> {
        if share == 1. {
            return Ok(self);
        }
        let scaled = |(name, piece)| {
            Ok((
                name,
                match piece {
                    Piece::Mean(mean) => Piece::Mean((mean * share)?),
                    rows => rows,
                },
            ))
        };
        Ok(Self(self.0.into_iter().map(scaled).collect::<Result<_>>()?))
    }

    /// The sum of the updates of two parts, both [`scaled`](Self::scaled).
    ///
    /// # Errors
    /// When the updates have not the same pieces.
    pub fn plus(self, other: Self) -> Result<Self> {
        if self.0.len() != other.0.len() {
            bail!("parts of a step with {} and {} pieces of an update", self.0.len(), other.0.len())
        }
        let joined = |((name, a), (other, b)): ((&'static str, Piece), (&'static str, Piece))| match (a, b) {
            (Piece::Mean(a), Piece::Mean(b)) if name == other => Ok((name, Piece::Mean((a + b)?))),
            (Piece::Rows(a), Piece::Rows(b)) if name == other => Ok((name, Piece::Rows(Tensor::cat(&[a, b], 0)?))),
            _ => bail!("parts of a step with other pieces of an update: {name} and {other}"),
        };
        Ok(Self(self.0.into_iter().zip(other.0).map(joined).collect::<Result<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn updates_of_parts_are_that_of_the_whole() -> Result<()> {
        let tensor = |values: &[f32]| Tensor::from_slice(values, (values.len(), 1), &Device::Cpu);
        let of = |mean: f32, rows: &[f32]| {
            let update = Update::default().with("centre", Piece::Mean(tensor(&[mean])?));
            Ok::<_, candle_core::Error>(update.with("queue", Piece::Rows(tensor(rows)?)))
        };
        let whole = of(1., &[1., 2., 3.])?.scaled(0.75)?.plus(of(5., &[4.])?.scaled(0.25)?)?;
        let values = |name: &str| whole.get(name)?.flatten_all()?.to_vec1::<f32>();
        assert_eq!((values("centre")?, values("queue")?), (vec![2.], vec![1., 2., 3., 4.]));
        assert!(whole.get("other").is_err() && of(1., &[])?.plus(Update::default()).is_err());
        Ok(())
    }
}
