//! Small records: IDX and CIFAR files.

use crate::scratch;
use selfpatch_datasets::{Access, open};
use std::fs;

/// The files of an IDX data set in the order in which [`idx`] cuts them from its bytes.
const IDX: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
const IMAGES: usize = 3;
const SIDES: [usize; 2] = [5, 7];
const RECORD: usize = 3073;

/// Reads an IDX data set: all four files are mutants of which one is cut from `bytes` after the other, the
/// last taking what is left.
pub fn idx(mut bytes: &[u8]) -> bool {
    let Ok(folder) = scratch::folder() else { return false };
    for (i, name) in IDX.iter().enumerate() {
        let usual = if i % 2 == 0 { 16 + IMAGES * SIDES[0] * SIDES[1] } else { 8 + IMAGES };
        let most = if i + 1 == IDX.len() { bytes.len() } else { usual.min(bytes.len()) };
        let (file, rest) = bytes.split_at(most);
        bytes = rest;
        if fs::write(folder.path().join(name), file).is_err() {
            return false;
        }
    }
    let Some(spec) = folder.path().to_str() else { return false };
    ["train", "test"].iter().all(|split| all_read(&format!("{spec}#{split}")))
}

/// Reads a file of CIFAR-10.
pub fn cifar(bytes: &[u8]) -> bool {
    scratch::with_file("data_batch_1.bin", bytes, |path| path.to_str().is_some_and(all_read))
}

fn all_read(spec: &str) -> bool {
    let Ok(source) = open(spec, &Access::usual()) else { return false };
    (0..source.len()).all(|i| source.read(i).is_ok())
}

/// One IDX data set.
pub fn idx_seeds() -> anyhow::Result<Vec<Vec<u8>>> {
    let words = |words: &[usize]| words.iter().flat_map(|&w| (w as u32).to_be_bytes()).collect::<Vec<u8>>();
    let images = [words(&[2051, IMAGES, SIDES[0], SIDES[1]]), vec![7; IMAGES * SIDES[0] * SIDES[1]]].concat();
    let labels = [words(&[2049, IMAGES]), vec![1; IMAGES]].concat();
    Ok(vec![[&images[..], &labels, &images, &labels].concat()])
}

/// A CIFAR-10 file of two records.
pub fn cifar_seeds() -> anyhow::Result<Vec<Vec<u8>>> {
    Ok(vec![(0..2 * RECORD).map(|i| (i / RECORD) as u8).collect()])
}
