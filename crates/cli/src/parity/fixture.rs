//! Reading one fixture.

use super::computing::Computing;
use anyhow::{Context, Result, anyhow};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// How a folder describes its fixtures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `NAME.json` beside `NAME.safetensors`, with a `fixture` field.
    Single,
    /// One `manifest.json` for all.
    Manifest,
    /// Neither: described in another way, or data of another fixture.
    Other,
}

/// Where a fixture lies.
pub struct Place {
    /// Name without folder and extension.
    pub name: String,
    /// How it is described.
    pub format: Format,
    folder: PathBuf,
}

impl Place {
    /// The fixture whose tensors are in `path`.
    pub fn of(path: &Path, manifest: bool) -> Option<Self> {
        let name = path.file_stem()?.to_str()?.to_string();
        let folder = path.parent()?.to_path_buf();
        let format = match manifest {
            true => Format::Manifest,
            false => match json(&path.with_extension("json")) {
                Ok(v) if v.get("fixture").is_some() => Format::Single,
                _ => Format::Other,
            },
        };
        Some(Self { name, format, folder })
    }

    /// A fixture without tensors; `None` for the index of a folder.
    pub fn json_only(path: &Path, manifest: bool) -> Option<Self> {
        let name = path.file_stem()?.to_str()?.to_string();
        if manifest || matches!(name.as_str(), "INDEX" | "manifest") {
            return None;
        }
        Some(Self { name, format: Format::Other, folder: path.parent()?.to_path_buf() })
    }

    /// `folder/name`.
    pub fn label(&self) -> String {
        let folder = self.folder.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
        format!("{folder}/{}", self.name)
    }

    /// Whether `--only` with this text means this fixture.
    pub fn is_called(&self, text: &str) -> bool {
        text == self.name || text == self.label()
    }
}

/// Tensors and description of one fixture.
pub struct Fixture {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// `config` of the description.
    pub config: Value,
    /// `values` of the description.
    pub values: Value,
    /// Where other files of the fixture would lie.
    pub folder: PathBuf,
    /// How the numbers to compare are computed.
    pub computing: Computing,
}

impl Fixture {
    /// Reads tensors, to the device of `computing`, and description.
    pub fn read(place: &Place, computing: &Computing) -> Result<Self> {
        let path = place.folder.join(format!("{}.safetensors", place.name));
        let mut tensors = selfpatch_nn::weights::read(&path, &Device::Cpu)?.tensors;
        // Tables of integers are compared on the CPU.
        for t in tensors.values_mut().filter(|t| matches!(t.dtype(), DType::F32 | DType::F64 | DType::U8)) {
            *t = t.to_device(&computing.device)?;
        }
        let description = match place.format {
            Format::Manifest => {
                let all = json(&place.folder.join("manifest.json"))?;
                all["fixtures"][&place.name].clone()
            }
            _ => json(&path.with_extension("json"))?,
        };
        let (config, values) = (description["config"].clone(), description["values"].clone());
        Ok(Self { tensors, config, values, folder: place.folder.clone(), computing: computing.clone() })
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| anyhow!("the fixture has no tensor {name}"))
    }

    /// The same in another dtype.
    pub fn cast(&self, name: &str, dtype: DType) -> Result<Tensor> {
        Ok(self.get(name)?.to_dtype(dtype)?)
    }

    /// Names that start with `prefix`, without it.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().filter_map(move |k| k.strip_prefix(prefix))
    }

    /// Tensors whose names start with `prefix`, without it, as a set of weights.
    pub fn weights(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        self.tensors.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone()))).collect()
    }

    /// An integer of the configuration.
    pub fn int(&self, name: &str) -> Result<usize> {
        integer(&self.config, name)
    }

    /// A number of the configuration.
    pub fn number(&self, name: &str) -> Result<f64> {
        number(&self.config, name)
    }

    /// Precisions for which the fixture holds expected values, and that can be computed.
    pub fn precisions(&self) -> Vec<(DType, &'static str)> {
        [(DType::F32, "f32"), (DType::F64, "f64")]
            .into_iter()
            .filter(|(dtype, _)| self.computing.has(*dtype))
            .filter(|(_, p)| self.tensors.keys().any(|k| k.starts_with(&format!("{p}/"))))
            .collect()
    }

    /// Where the fixture is computed.
    pub fn device(&self) -> &Device {
        &self.computing.device
    }

    /// A builder over weights in one dtype.
    pub fn builder(&self, weights: &BTreeMap<String, Tensor>, dtype: DType) -> VarBuilder<'static> {
        let weights: HashMap<String, Tensor> = weights.clone().into_iter().collect();
        VarBuilder::from_tensors(weights, dtype, self.device())
    }
}

/// An integer field of a description.
pub fn integer(v: &Value, name: &str) -> Result<usize> {
    Ok(v[name].as_u64().with_context(|| format!("the fixture's description has no integer {name}"))? as usize)
}

/// A number field of a description.
pub fn number(v: &Value, name: &str) -> Result<f64> {
    v[name].as_f64().with_context(|| format!("the fixture's description has no number {name}"))
}

/// Network input from stored bytes: `(u - 128) / 64`, exact in f32.
pub fn pixels(bytes: &Tensor, dtype: DType) -> Result<Tensor> {
    Ok(((bytes.to_dtype(dtype)? - 128.)? / 64.)?)
}

fn json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// One weight of a set.
pub fn weight<'a>(weights: &'a BTreeMap<String, Tensor>, name: &str) -> Result<&'a Tensor> {
    weights.get(name).ok_or_else(|| anyhow!("the fixture has no weight {name}"))
}
