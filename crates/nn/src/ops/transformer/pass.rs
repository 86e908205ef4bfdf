//! What is chosen for one pass through a stack of blocks.

use crate::Survival;

/// What the backward pass finds in memory, and what it computes a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activations {
    /// All that it needs: fastest.
    #[default]
    Keep,
    /// Each block's input only, a fourteenth of that or less, for one more forward pass.
    Recompute,
}

/// Stochastic depth of one pass: for each block its attention branch and its feed-forward branch;
/// `None` where a branch is never dropped.
pub type Survivals = Vec<[Option<Survival>; 2]>;
