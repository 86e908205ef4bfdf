//! Features of images, made once and kept in the folder of the run.

use candle_core::{DType, Device, Tensor};
use selfpatch_eval::images::{Centre, Labelled, embed};
use selfpatch_run::Error;
use selfpatch_weights::{read, write_safetensors};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The folder of features within that of a run.
pub const FOLDER: &str = "features";
/// Names of the features of the test and of the training images in files.
pub(crate) const SETS: [&str; 2] = ["val", "train"];
/// Key of the metadata that says what was noticed, as JSON.
const NOTICED: &str = "noticed";

/// A function that makes features `[B, D]` of squares, each one `[C, S, S]` or several.
pub type Encode<'a> = &'a dyn Fn(&[selfpatch_datasets::Samples]) -> candle_core::Result<Tensor>;

/// Features of some labelled images.
#[derive(Clone, Debug)]
pub struct Features {
    /// Rows of features, `[N, D]`, f32.
    pub rows: Tensor,
    /// Classes of the images, `[N]`.
    pub labels: Vec<u32>,
    /// Places of the images in the source, `[N]`.
    pub places: Vec<u32>,
    /// What was noticed while the features were made.
    pub noticed: Noticed,
}

/// What was noticed while features were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noticed {
    /// Images that could not be read, and why.
    pub skipped: Vec<(String, String)>,
    /// What was left out of the images that could be read, in words.
    pub left_out: Vec<String>,
}

impl Noticed {
    /// What was noticed while the features of both sets in the folder of a run were made, the test images first;
    /// `left_out` begins with the name of the set.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else.
    pub fn of(run: &Path) -> Result<Self, Error> {
        let mut all = Self::default();
        for set in SETS {
            let of_set = Features::read(run, set, &Device::Cpu)?.map(|found| found.noticed).unwrap_or_default();
            all.skipped.extend(of_set.skipped);
            all.left_out.extend(of_set.left_out.into_iter().map(|text| format!("{set}: {text}")));
        }
        Ok(all)
    }
}

impl Features {
    /// Features of the middle of each image. `tell` hears how many images are done.
    ///
    /// # Errors
    /// When the model fails or gives non-finite features, or no image can be read.
    pub fn made(
        images: &Labelled,
        centre: &Centre,
        encode: Encode,
        device: &Device,
        tell: &mut dyn FnMut(usize),
    ) -> Result<Self, Error> {
        let failed = |e: selfpatch_eval::Error| {
            let field = if matches!(e, selfpatch_eval::Error::Images(_)) { "data" } else { "model" };
            Error::Config { field: field.into(), reason: e.to_string() }
        };
        let all = embed(images, centre, &mut |squares| encode(squares), tell).map_err(failed)?;
        let rows = Tensor::from_vec(all.features, (all.labels.len(), all.width), device)?;
        let places = all.places.into_iter().map(|place| place as u32).collect();
        let noticed = Noticed { skipped: all.skipped, left_out: all.left_out };
        Ok(Self { rows, labels: all.labels, places, noticed })
    }

    /// Writes `features/NAME.safetensors` into the folder of a run: `features [N, D]` f32, `labels [N]` and
    /// `places [N]` as 64-bit integers, and as metadata what was noticed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, run: &Path, name: &str) -> Result<(), Error> {
        let folder = run.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let whole = |values: &[u32]| {
            let values: Vec<i64> = values.iter().map(|v| i64::from(*v)).collect();
            Tensor::from_vec(values, self.labels.len(), &Device::Cpu)
        };
        let tensors = [
            ("features".to_string(), self.rows.to_device(&Device::Cpu)?),
            ("labels".to_string(), whole(&self.labels)?),
            ("places".to_string(), whole(&self.places)?),
        ];
        let path = folder.join(format!("{name}.safetensors"));
        let noticed = serde_json::to_string(&self.noticed);
        let noticed = noticed.map_err(|e| Error::File { path: path.clone(), reason: e.to_string() })?;
        Ok(write_safetensors(&path, &tensors, &[(NOTICED.into(), noticed)])?)
    }

    /// Reads features that [`Features::write`] wrote; `None` where there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(run: &Path, name: &str, device: &Device) -> Result<Option<Self>, Error> {
        let path = run.join(FOLDER).join(format!("{name}.safetensors"));
        if !path.is_file() {
            return Ok(None);
        }
        let file = read(&path, &Device::Cpu)?;
        let tensor = |name: &str| {
            let none = || Error::File { path: path.clone(), reason: format!("has no {name}; remove the file") };
            file.tensors.get(name).ok_or_else(none)
        };
        let whole = |name: &str| Ok::<_, Error>(tensor(name)?.to_dtype(DType::U32)?.to_vec1::<u32>()?);
        let rows = tensor("features")?.to_device(device)?;
        let noticed = file.metadata.get(NOTICED).and_then(|text| serde_json::from_str(text).ok());
        let noticed = noticed.ok_or_else(|| Error::File {
            path: path.clone(),
            reason: "does not say which images could not be read; remove the file".into(),
        })?;
        Ok(Some(Self { rows, labels: whole("labels")?, places: whole("places")?, noticed }))
    }
}
