//! Charts as inline SVG, pictures as PNG, pages as one HTML file that needs nothing else, and numbers in words.
//!
//! Everything is made of slices, images and plain numbers: nothing here knows tensors, networks or the files of a run.
//!
//! ```
//! use selfpatch_figures::{Axis, Chart, Curve, document, figure};
//!
//! let points = vec![(1.0, 5.2), (2.0, 4.1), (3.0, 3.9)];
//! let curve = Curve { label: "loss", last: 3.9, points };
//! let chart = Chart { title: "Training loss", unit: "loss", curves: vec![curve], marks: vec![] };
//! let page = document("a run", None, "", &figure(&chart, &Axis::of_steps(3)));
//! assert!(page.contains("<svg") && !page.contains("<script"));
//! ```

mod axis;
pub mod braille;
mod chart;
pub mod inspection;
mod page;
mod picture;
pub mod words;

pub use axis::Axis;
pub use chart::{Chart, Curve, MAX_POINTS, figure};
pub use page::{document, escape};
pub use picture::PatchPicture;
