//! Downstream evaluation: video label propagation and J&F, and classification by nearest neighbours.
//!
//! The protocol of DAVIS 2017 (semi-supervised) as the reference runs it: no training, only the patch tokens of a
//! model. The mask of a video's first frame is downsampled to the token grid and propagated from frame to frame by
//! similarity ([`propagation`]), enlarged to ids per pixel ([`labels`]), and compared with the annotation
//! ([`metrics`]). [`davis`] ties this together for anything that implements [`DenseFeatures`] and any
//! [`VideoSource`](selfpatch_datasets::VideoSource).
//!
//! Resampling, ties, rounding and the statistics follow the reference to the last decided pixel. Four of its bugs are
//! not reproduced, each described where it would occur: square frames ([`frames::FrameSize`]), classes that are the
//! same everywhere ([`labels::decide`]), decay from 256 frames on ([`metrics::statistics`]), void pixels that become
//! objects ([`frames::first_mask`]).
//!
//! Labelled images become features ([`images`]) and are classified by their nearest neighbours ([`knn`]), as in
//! DINO's k-NN evaluation.
//!
//! Refused, with an [`Error`] that names the place: a video without an object in its first mask or with fewer than
//! three masks, a video whose frames change size, features that are non-finite or change shape, settings out of
//! range. The crate holds no model, and never keeps more than the features of the context frames.
//!
//! # J&F of two masks
//! ```
//! use selfpatch_datasets::Mask;
//! use selfpatch_eval::metrics::{Region, boundary_f, region_similarity};
//!
//! let mask = |ids| Mask { width: 6, height: 3, ids };
//! let truth = mask(vec![0, 1, 1, 0, 0, 2, 0, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
//! let guess = mask(vec![0, 1, 1, 1, 0, 2, 0, 1, 1, 1, 0, 2, 0, 0, 0, 0, 0, 0]);
//! let (truth, guess) = (Region::of(&truth, 1)?, Region::of(&guess, 1)?);
//! let j = region_similarity(&truth, &guess)?; // 4 of 6 pixels
//! let f = boundary_f(&truth, &guess)?; // outlines one pixel apart count as equal
//! assert_eq!(((j + f) * 50.0).round(), 83.0);
//! # Ok::<(), selfpatch_eval::Error>(())
//! ```
//!
//! # Labels on a toy grid
//! ```
//! use selfpatch_eval::labels::decide;
//! use selfpatch_eval::propagation::{Propagation, Propagator};
//!
//! // A grid of 1 x 3 tokens with two features; the object is where the second one is large.
//! let first = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
//! let mask = [1.0, 0.0, 1.0, /* object: */ 0.0, 1.0, 0.0];
//! let settings = Propagation { top_k: 1, ..Propagation::default() };
//! let mut labels = Propagator::new(&settings, 1, 3, &first, &mask)?;
//! let soft = labels.step(&[1.0, 0.1, 0.9, 0.0, 0.2, 1.0])?; // it moved to the right
//! assert_eq!(soft[3..], [0.0, 0.0, 1.0]);
//! let ids = decide(&soft, 1, 3, 16, 3, 1)?.ids; // patches of 16 pixels, shown at 3 x 1
//! assert_eq!(ids, [0, 0, 1]);
//! # Ok::<(), selfpatch_eval::Error>(())
//! ```

pub use candle_core;

mod about;
mod csv;
pub mod davis;
mod error;
pub mod frames;
pub mod images;
pub mod knn;
pub mod labels;
pub mod metrics;
pub mod propagation;
pub mod resize;
pub mod results;
mod scores;
mod table;
mod vit;

pub use about::{About, Facts, facts};
pub use csv::{global_csv, per_sequence_csv};
pub use davis::{DenseFeatures, Done, Evaluation, Features, Objects, Protocol, evaluate, first_mask_copied};
pub use error::Error;
pub use frames::FrameSize;
pub use knn::{Embedded, KnnScores, classify};
pub use propagation::{Propagation, Propagator};
pub use scores::{DavisReport, ObjectReport, Scores, SequenceReport};
pub use table::{Row, table};
pub use vit::VitFeatures;

/// The id of void pixels of an annotation, which belong to no object and are not scored.
pub const VOID: u8 = 255;
