//! Saving and restoring all state of a task; `docs/checkpoints.md` describes the files.
//!
//! `checkpoints/step-NNNNNN/` holds the task's tensors as safetensors files (those of a pre-training: `student`,
//! `teacher`, `optimizer` and `centers`), the `config.toml` that they were made with, `state.json` with the step, the
//! task's values and a BLAKE3 digest of each file, and `state.b3`, the digest of `state.json`. The folder is written
//! under another name, brought to the disk, and renamed when complete.

mod header;
mod list;
mod read;
mod saver;
mod state;
mod write;

pub use list::list;
pub use read::{Found, newest, usable};
pub use saver::Saver;
pub use state::{Named, State};
pub use write::{Moment, write};
