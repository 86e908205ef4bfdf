//! What a check is asked for.

use super::worker::Start;
use std::path::PathBuf;

/// What is checked, and how.
pub struct Options {
    /// The device's name; `cpu` to try the check.
    pub device: String,
    /// This program as a worker that computes on the device: it calls [`serve()`](super::serve()).
    pub on_device: Start,
    /// This program as a worker that computes on the CPU.
    pub on_cpu: Start,
    /// Folder for gpu-report.json and gpu-report.md.
    pub out: PathBuf,
    /// Minutes after which the check ends, with what it has by then; above 0.
    pub minutes: f64,
    /// The parts that are wanted; all if there are none.
    pub only: Vec<Part>,
    /// Whether shapes cost nothing and steps are few, to try the check.
    pub quick: bool,
    /// The Python whose PyTorch is measured beside ours.
    pub python: PathBuf,
    /// Folder of fixtures, if not those in the program or in the repository.
    pub fixtures: Option<PathBuf>,
    /// Threads of the CPU, if not one per core.
    pub threads: Option<usize>,
}

/// Takes what there is to say, one or several lines at a time.
pub type Tell<'a> = &'a mut dyn FnMut(&str);

/// A part of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The fixtures of the original program.
    Parity,
    /// Loss curves beside the CPU's.
    Train,
    /// Training steps beside PyTorch's.
    Speed,
}
