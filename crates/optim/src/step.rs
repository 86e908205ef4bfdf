//! The numbers of one step.

/// Learning rate, weight decay and loss scale of one step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Factor of the loss whose gradients are given, by which they are divided; 1 for an unscaled loss.
    pub scale: f64,
}

impl Default for Step {
    fn default() -> Self {
        Self { lr: 0., weight_decay: 0., scale: 1. }
    }
}
