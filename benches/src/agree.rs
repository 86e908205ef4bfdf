//! Whether decoding and augmentation agree with Pillow and torchvision on the files of a bench.

use anyhow::{Context, Result, bail};
use selfpatch_datasets::{Content, Decoding, Image, ImageSource, MultiCrop, Op, Picture, Samples};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Images that are compared.
const IMAGES: usize = 32;

/// Bytes compared, bytes that differ, largest difference.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Count {
    pub bytes: u64,
    pub differ: u64,
    pub most: u8,
}

/// What `peers/agree.py` found.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Agreement {
    /// Bytes of decoded files.
    pub decoded: Count,
    /// Bytes of views of the same pixels.
    pub views: Count,
    /// Pillow's time to decode one file.
    pub decode_ms: f64,
}

/// Decodes and augments some images below `root`, and has Python do the same in `work`, an empty folder.
pub fn agreement(
    source: &dyn ImageSource,
    root: &Path,
    crops: &MultiCrop,
    python: &Path,
    work: &Path,
) -> Result<Agreement> {
    let mut entries = Vec::new();
    for i in 0..source.len().min(IMAGES) {
        let Content::File(bytes) = source.read(i)? else { bail!("only files can be compared") };
        let image = Decoding::default().image(&bytes).map_err(anyhow::Error::msg)?;
        let pixels = format!("{i}.rgb");
        write(&work.join(&pixels), &image)?;
        let views = views(source, i, &image, crops, work)?;
        let file = fs::canonicalize(root.join(source.name(i)))?;
        let (width, height) = (image.width, image.height);
        entries.push(json!({ "file": file, "pixels": pixels, "width": width, "height": height, "views": views }));
    }
    fs::write(work.join("agree.json"), serde_json::to_vec(&entries)?)?;
    serde_json::from_str(&crate::peer::peer(python, "agree.py", &[&work.to_string_lossy()])?).context("agree.py")
}

fn views(source: &dyn ImageSource, i: usize, image: &Image, crops: &MultiCrop, work: &Path) -> Result<Vec<Value>> {
    let picture = Picture::of(image).context("an image that is not whole")?;
    let drawn = crops.draw_all(picture.shape(), 0, 0, source.id(i));
    let one = |(number, d): (usize, &selfpatch_datasets::Drawn)| -> Result<Value> {
        let Samples::Bytes(planes) = picture.view(d) else { bail!("no bytes") };
        let file = format!("{i}-{number}.planes");
        fs::write(work.join(&file), planes)?;
        let w = d.window;
        let ops: Vec<Value> = d.ops.iter().map(told).collect();
        let window = [w.top, w.left, w.height, w.width];
        Ok(json!({ "file": file, "window": window, "size": d.size, "flip": d.flip, "ops": ops }))
    };
    drawn.iter().enumerate().map(one).collect()
}

fn told(op: &Op) -> Value {
    match op {
        Op::Brightness(f) => json!(["brightness", f]),
        Op::Contrast(f) => json!(["contrast", f]),
        Op::Saturation(f) => json!(["saturation", f]),
        Op::Hue(t) => json!(["hue", t]),
        Op::Blur(r) => json!(["blur", r]),
        Op::Grey => json!(["grey", null]),
        Op::Solarize => json!(["solarize", null]),
        Op::Gain(_) => json!(["gain", null]),
    }
}

fn write(path: &Path, image: &Image) -> Result<()> {
    match &image.samples {
        Samples::Bytes(pixels) => Ok(fs::write(path, pixels)?),
        Samples::Floats(_) => bail!("no bytes"),
    }
}
