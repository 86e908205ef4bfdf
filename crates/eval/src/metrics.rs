//! J (region) and F (boundary) of the DAVIS 2017 benchmark.

mod boundary;
mod region;
mod sequence;
mod statistics;

pub use boundary::{boundary_f, boundary_radius, dilated, outline};
pub use region::{Region, region_similarity};
pub use sequence::{ObjectScore, SequenceTally, object_ids, official_ids};
pub use statistics::{Statistics, statistics};
