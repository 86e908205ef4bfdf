//! The numbers of one step.

/// What one step is done with.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// What the loss was multiplied with before its gradients were taken; they are divided by it. 1 if it was not.
    pub scale: f64,
}

impl Default for Step {
    fn default() -> Self {
        Self { lr: 0., weight_decay: 0., scale: 1. }
    }
}
