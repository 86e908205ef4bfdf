//! The teacher's temperature over the epochs.

/// Temperature in `epoch`: linear from `warmup` to `last` over `warmup_epochs` (both ends included),
/// then constant. The reference: `np.linspace(warmup, last, warmup_epochs)`, then `last`.
pub fn teacher_temperature(warmup: f64, last: f64, warmup_epochs: usize, epoch: usize) -> f64 {
    if epoch >= warmup_epochs {
        last
    } else if warmup_epochs == 1 {
        warmup
    } else {
        warmup + (last - warmup) * epoch as f64 / (warmup_epochs - 1) as f64
    }
}
