//! Images and videos from folders or made procedurally, decoded, augmented and batched.
//!
//! Pre-training reads single images from an [`ImageSource`], which [`open`] finds: folders, lists, tar
//! and parquet files, data sets on the hub, small records, videos; or [`ProceduralImages`] where there
//! is no data at hand. [`Decoding`] makes pixels of them, and a [`Loader`] turns those into batches of
//! random views, described by a [`MultiCrop`]. Evaluation reads a [`VideoSource`]: a
//! [`DavisFolder`] or [`ProceduralVideos`].
//!
//! Everything is a function of a seed: a batch has the same bytes on one thread and on sixteen,
//! and when an epoch is resumed in its middle.
//!
//! Refused, with the path or field in the [`Error`]: missing or empty folders, files that are
//! truncated or not what they claim to be, images beyond the limits of [`Decoding`], masks without
//! ids, splits that do not exist, batches larger than the data, and settings outside their range.
//! A [`Loader`] passes over a bad image, names it in its batch, and stops when there are too many.
//!
//! ```
//! use std::sync::Arc;
//! use selfpatch_datasets::{Decoding, Loader, LoaderConfig, MultiCrop, ProceduralImages};
//!
//! let images = Arc::new(ProceduralImages::new(7, 64, 96)); // seed, images, pixels
//! let config = LoaderConfig::new(16, 7); // images per batch, seed
//! let loader = Loader::new(images, MultiCrop::procedural(), Decoding::default(), config)?;
//! for batch in loader.epoch(0, 0) {
//!     let batch = batch?;
//!     assert_eq!(batch.views.globals.len(), 2 * 16 * 3 * 48 * 48);
//!     assert_eq!(batch.views.locals.len(), 4 * 16 * 3 * 24 * 24);
//! }
//! # Ok::<(), selfpatch_datasets::Error>(())
//! ```

mod augment;
mod batch;
mod batches;
mod davis;
mod decode;
mod error;
mod file;
mod frame;
mod loader;
mod mask;
mod procedural;
mod random;
mod recipe;
mod source;
mod survey;
mod video;

pub use augment::{Crops, Drawn, Filter, MultiCrop, Op, Picture, Pillow, Square, ViewConfig, Window};
pub use batch::{Batch, Fault, LoaderConfig};
pub use batches::Batches;
pub use davis::{DavisFolder, natural};
pub use decode::{Decoding, Format, Header, LeftOut, Notes, Range, Raw, Tally, decode};
pub use error::Error;
pub use frame::{Image, Mask, Rgb, Samples};
pub use loader::{Loader, batch_memory};
pub use mask::{decode_binary_mask, decode_mask, mask_palette, write_mask, write_mask_with};
pub use procedural::{ProceduralImages, ProceduralVideos};
pub use random::{Purpose, shuffle, stream};
pub use recipe::{Key, Recipe};
pub use source::{Access, Content, ImageFolder, ImageSource, Manifest, Records, Shards, Stamp, open, same_files};
pub use survey::{Named, Spread, Suggestion, Survey, suggest, survey};
pub use video::VideoSource;
