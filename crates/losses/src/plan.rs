//! What an objective needs of its trainer, as plain data.

use selfpatch_nn::Affine;

/// What an objective needs of its trainer.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The views that the trained network sees.
    pub online: Views,
    /// What the rows of the trained network are compared with.
    pub target: Target,
    /// The head that both networks have.
    pub projector: Head,
    /// The head that the trained network has on top of its projector.
    pub predictor: Option<Mlp>,
    /// Parameters that stay as they are for a while.
    pub freeze: Vec<Freeze>,
    /// Whose statistics a batch norm of the heads takes.
    pub norm: NormOver,
    /// Whether prototypes are brought to unit length before each forward pass.
    pub unit_prototypes: bool,
    /// Whether the loss of an image depends on the other images of the step (negatives, assignments over the batch):
    /// then parts of a step, taken one after the other, are another loss.
    pub whole_batch: bool,
}

/// The head that makes the rows of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// A [`ProjectionHead`](crate::ProjectionHead), of the widths in the settings of the run.
    Dino,
    /// A head of linear layers.
    Mlp(Mlp),
}

/// Linear layers with norms and activations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mlp {
    /// The layers, first to last.
    pub layers: Vec<Layer>,
    /// Number of prototypes without bias on rows of unit length (SwAV).
    pub prototypes: Option<usize>,
}

/// A linear layer and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Width of the output.
    pub out: usize,
    /// Whether the layer has a bias.
    pub bias: bool,
    /// The batch norm after the layer, by what follows the normalisation; `None` for no norm.
    pub norm: Option<Affine>,
    /// Whether ReLU follows the layer.
    pub relu: bool,
}

/// Some views of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Views {
    /// The global view of this number, counted from 0 (MoCo v1 and v2, whose branches see one each).
    One(usize),
    /// All global views.
    Globals,
    /// All views, global and local.
    All,
}

/// What the rows of the trained network are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// No target: rows of the trained network are compared with each other.
    None,
    /// The trained network's own rows, without gradient.
    StopGradient,
    /// The rows of a network that follows the trained one as a moving average.
    Average {
        /// The views that the average sees.
        views: Views,
        /// When the average moves.
        moves: Moves,
    },
}

/// When a moving average moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moves {
    /// Before the forward pass of the average.
    BeforeTarget,
    /// After the optimiser's step.
    AfterStep,
}

/// Whose statistics a batch norm takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormOver {
    /// The rows of each view by itself.
    View,
    /// The rows of all views of one size.
    Size,
    /// The rows of all views.
    All,
}

/// Parameters that stay as they are for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Text that the names of the parameters contain.
    pub of: &'static str,
    /// The first epoch, counted from 0, in which the parameters are trained; `None` for never.
    pub until: Option<usize>,
}

impl Freeze {
    /// Whether the parameters stay as they are in `epoch`.
    pub fn holds(&self, epoch: usize) -> bool {
        self.until.is_none_or(|until| epoch < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_ends_with_its_epoch_or_never() {
        let holds = |until| [0, 1, 9].map(|epoch| Freeze { of: "last_layer", until }.holds(epoch));
        assert_eq!(holds(Some(1)), [true, false, false]);
        assert_eq!((holds(Some(0)), holds(None)), ([false; 3], [true; 3]));
    }
}
