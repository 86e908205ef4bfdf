//! What processes that train together tell each other: sums, rows, and whether anything is wrong.
//!
//! A [`Communicator`] is one process's view of all of them. [`Alone`] is a process by itself; [`threads`] makes several
//! that are threads of one process, for tests of code that will run on many machines.
//!
//! ```
//! use selfpatch_dist::{Communicator, threads};
//!
//! # fn main() -> selfpatch_dist::candle_core::Result<()> {
//! let sums = std::thread::scope(|scope| {
//!     let run = |ranks: selfpatch_dist::Thread| {
//!         scope.spawn(move || {
//!             let mut part = [ranks.rank() as f32, 1.];
//!             ranks.sum(&mut [&mut part]).map(|()| part)
//!         })
//!     };
//!     threads(3).into_iter().map(run).collect::<Vec<_>>().into_iter().map(|t| t.join()).collect::<Vec<_>>()
//! });
//! assert!(sums.into_iter().all(|sum| matches!(sum, Ok(Ok([3., 3.])))));
//! # Ok(())
//! # }
//! ```

pub use candle_core;

mod alone;
mod communicator;
mod share;
mod thread;

pub use alone::Alone;
pub use communicator::Communicator;
pub use share::Share;
pub use thread::{Thread, threads};
