//! Images and videos from folders or made procedurally, decoded, augmented and batched.
//!
//! Pre-training reads single images from an [`ImageSource`]: an [`ImageFolder`], or
//! [`ProceduralImages`] where there is no data at hand. A [`Loader`] turns them into batches of
//! random views, described by a [`MultiCrop`]. Evaluation reads a [`VideoSource`]: a
//! [`DavisFolder`] or [`ProceduralVideos`].
//!
//! Everything is a function of a seed: a batch has the same bytes on one thread and on sixteen,
//! and when an epoch is resumed in its middle.
//!
//! Refused, with the path or field in the [`Error`]: missing or empty folders, files that are
//! truncated or not what they claim to be, images of more than 16384 pixels on a side, masks
//! without ids, splits that do not exist, batches larger than the data, and settings outside
//! their range. Nothing is skipped silently.
//!
//! ```
//! use std::sync::Arc;
//! use selfpatch_datasets::{Loader, MultiCrop, ProceduralImages};
//!
//! let images = Arc::new(ProceduralImages::new(7, 64, 96)); // seed, images, pixels
//! let loader = Loader::new(images, MultiCrop::procedural(), 16, 7, 2)?; // batch, seed, threads
//! for batch in loader.epoch(0, 0) {
//!     let batch = batch?;
//!     assert_eq!(batch.globals.len(), 2 * 16 * 3 * 48 * 48);
//!     assert_eq!(batch.locals.len(), 4 * 16 * 3 * 24 * 24);
//! }
//! # Ok::<(), selfpatch_datasets::Error>(())
//! ```

mod augment;
mod batches;
mod davis;
mod decode;
mod error;
mod folder;
mod frame;
mod jpeg;
mod loader;
mod mask;
mod procedural;
mod random;
mod source;
mod video;

pub use augment::{MultiCrop, ViewConfig};
pub use batches::Batches;
pub use davis::DavisFolder;
pub use decode::decode;
pub use error::Error;
pub use folder::ImageFolder;
pub use frame::{Mask, Rgb};
pub use loader::{Batch, Loader};
pub use mask::{decode_mask, write_mask};
pub use procedural::{ProceduralImages, ProceduralVideos};
pub use random::{Purpose, stream};
pub use source::ImageSource;
pub use video::VideoSource;
