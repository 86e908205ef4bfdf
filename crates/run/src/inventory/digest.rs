//! Digests of the bytes of images.

use rayon::prelude::*;
use selfpatch_datasets::{Content, ImageSource, Samples};

/// Digests of some images; `None` for those that cannot be read.
pub(super) fn digests(source: &dyn ImageSource, indices: &[usize]) -> Vec<(usize, Option<u64>)> {
    indices.par_iter().map(|&index| (index, read_digest(source, index))).collect()
}

/// Sources are anybody's code: a panic of theirs is no more than an image that cannot be read.
fn read_digest(source: &dyn ImageSource, index: usize) -> Option<u64> {
    let read = std::panic::AssertUnwindSafe(|| source.read(index));
    std::panic::catch_unwind(read).ok()?.ok().map(|content| digest(&content))
}

/// The first 8 bytes of the BLAKE3 digest of an image; never 0.
pub(super) fn digest(content: &Content) -> u64 {
    let mut hash = blake3::Hasher::new();
    match content {
        Content::File(bytes) => {
            hash.update(bytes);
        }
        Content::Image(image) => {
            for side in [image.width, image.height, image.channels] {
                hash.update(&(side as u64).to_le_bytes());
            }
            match &image.samples {
                Samples::Bytes(values) => {
                    hash.update(values);
                }
                Samples::Floats(values) => values.iter().for_each(|v| {
                    hash.update(&v.to_le_bytes());
                }),
            }
        }
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first).max(1)
}
