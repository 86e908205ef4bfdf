//! What is chosen for one pass through a stack of blocks.

use crate::Survival;

/// What the backward pass finds in memory, and what it computes a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activations {
    /// Everything that the backward pass needs: fastest.
    #[default]
    Keep,
    /// The input of each block only, a fourteenth of everything or less, at the price of one more forward pass.
    Recompute,
}

/// Stochastic depth of one pass: for each block its attention branch and its feed-forward branch;
/// `None` where a branch is never dropped.
pub type Survivals = Vec<[Option<Survival>; 2]>;
