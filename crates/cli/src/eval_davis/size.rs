//! How large the frames are that a model sees.

use selfpatch_eval::FrameSize;

/// Size at which a model sees frames.
#[derive(Clone, Copy)]
pub enum Size {
    /// One size for every model.
    Fixed(FrameSize),
    /// Tokens per side of a square frame, whatever the patches.
    Grid(usize),
}

impl Size {
    /// Size of frames for a model with patches of `patch` pixels.
    pub fn of(self, patch: usize) -> FrameSize {
        match self {
            Self::Fixed(size) => size,
            Self::Grid(tokens) => FrameSize::ShortSide(tokens * patch),
        }
    }
}
