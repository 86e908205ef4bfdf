//! Which images a run was trained on, so that changed data is noticed.
//!
//! `images.tsv` in the folder of a run has a line for each image: the digest of its bytes (`-` until they have been
//! read once), size and time of its file, and its name. Asking for sizes and times is cheap; bytes are read again
//! only where a time differs, and on the way, whenever training reads an image.

mod changes;
mod digest;
mod list;
mod watched;

pub(crate) use changes::{Changes, listed};
pub(crate) use list::{FILE, Inventory};
pub(crate) use watched::Watched;
