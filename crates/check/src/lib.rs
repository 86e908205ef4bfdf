//! What `selfpatch parity` and `selfpatch gpu-check` do: this project's numbers, loss curves and speed beside those of
//! other programs and devices.
//!
//! Nothing is printed here and no arguments are read: the commands hand over what was asked for and print what comes
//! back.
//!
//! ```no_run
//! use selfpatch_check::parity::{self, Computing};
//!
//! # fn main() -> anyhow::Result<()> {
//! let outcome = parity::checked(&["crates".into()], &[], &Computing::reference())?; // all fixtures of the repository
//! println!("{}", outcome.table());
//! # Ok(())
//! # }
//! ```

pub mod gpu_check;
pub mod parity;
