//! Pictures of what the teacher does: for a few crops, which patches it takes for positives and
//! what its last block attends to. The pictures lie in `views/` of the run folder, and the report shows them.

mod names;
mod page;

pub use names::{COLOURS, CROPS, FOLDER, attention_name, positives_name};
pub use page::section;

use crate::{Config, Error, Trainer};
use candle_core::{DType, Tensor};
use selfpatch_figures::PatchPicture;
use selfpatch_matching::positives;
use selfpatch_nn::Backbone;
use selfpatch_run::replace_file;
use selfpatch_vit::Vit;
use std::fs;
use std::path::Path;

/// Writes `views/*.png` into the run folder `folder`, in place of older ones.
///
/// `crops [V * B, C, S, S]`: normalised global crops of a batch, as [`Trainer::step`] takes them; the
/// first [`CROPS`] are shown. Handing over the same crops every time lets a reader see what changes.
/// Of crops with other than three channels the first three are shown, or the first in grey. Small crops are
/// enlarged by a whole factor. Positives are left out where the patch loss has none (`lambda = 0`,
/// `aggregation = "none"`).
///
/// # Errors
/// When a tensor does not fit the network, or a file cannot be written; the error names it.
pub fn write(folder: &Path, trainer: &Trainer, crops: &Tensor, config: &Config) -> Result<(), Error> {
    let folder = folder.join(FOLDER);
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let (count, _, height, width) = crops.dims4()?;
    let vit = &trainer.teacher().backbone;
    let (rows, cols) = vit.config().grid(height, width)?;
    let queries = queries(rows, cols);
    let near = config.neighbours(height)?;
    let mut written = Vec::new();
    for crop in 0..count.min(CROPS) {
        let x = crops.narrow(0, crop, 1)?;
        let planes = x.to_dtype(DType::F32)?.squeeze(0)?.flatten(1, 2)?.to_vec2::<f32>()?;
        let picture = PatchPicture::of(&planes, width, (&config.data.mean, &config.data.std), vit.config().patch_size);
        let marks = queries.iter().zip(COLOURS).enumerate();
        let mut marked = picture.clone();
        marks.clone().for_each(|(_, (&query, colour))| marked.frame(cell(query, cols), colour));
        if let Some((near, k)) = &near {
            let ids = positives(&vit.patch_features(&x)?, near, *k)?.ids.squeeze(0)?.to_vec2::<u32>()?;
            for (number, (&query, colour)) in marks.clone() {
                // Where a patch has fewer neighbours than k, the rest names none.
                let chosen = ids[query].iter().filter(|id| (**id as usize) < rows * cols);
                chosen.for_each(|&id| marked.thin_frame(cell(id as usize, cols), colour, number));
            }
        }
        written.push((positives_name(crop), marked));
        for (map, (number, (&query, colour))) in attention(vit, &x, &queries)?.iter().zip(marks) {
            let mut heat = picture.heated(map, cols);
            heat.frame(cell(query, cols), colour);
            written.push((attention_name(crop, number), heat));
        }
    }
    for (name, picture) in &written {
        let path = folder.join(name);
        let bytes = picture.png().map_err(|reason| Error::File { path: path.clone(), reason })?;
        replace_file(&path, &bytes).map_err(Error::io(&path))?;
    }
    remove_others(&folder, |name| written.iter().any(|(n, _)| n == name))
}

/// Query patches at a quarter, half and three quarters of the grid's diagonal, each once.
fn queries(rows: usize, cols: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (1..=COLOURS.len()).map(|i| (rows * i / 4) * cols + cols * i / 4).collect();
    all.dedup();
    all
}

fn cell(patch: usize, cols: usize) -> (usize, usize) {
    (patch / cols, patch % cols)
}

/// What each query patch attends to in the last block, the mean over heads: one number for each
/// patch, row by row. `x [1, C, S, S]`.
fn attention(vit: &Vit, x: &Tensor, queries: &[usize]) -> Result<Vec<Vec<f32>>, Error> {
    let mean = vit.attention(x)?.to_dtype(DType::F32)?.mean(1)?.squeeze(0)?.to_vec2::<f32>()?;
    let (height, width) = (x.dim(2)?, x.dim(3)?);
    let (rows, cols) = vit.config().grid(height, width)?;
    let extra = mean.len() - rows * cols; // the class token, where there is one
    Ok(queries.iter().map(|query| mean[extra + query][extra..].to_vec()).collect())
}

/// Removes pictures of an earlier call that this one did not replace.
fn remove_others(folder: &Path, is_new: impl Fn(&str) -> bool) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.ends_with(".png") && !is_new(name) {
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
