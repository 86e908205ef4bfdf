//! What a weight file states of its backbone and of the images that the backbone was trained on.

use selfpatch_weights::open_file;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Properties of a backbone that a weight file, or a file beside it, states and that no tensor shape tells.
///
/// A property that is not stated is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stated {
    /// The source of the statements, in words: `its metadata`, `config.json`, …; empty if there is none.
    pub by: String,
    /// Attention heads.
    pub num_heads: Option<usize>,
    /// Epsilon of every layer norm, added to the variance.
    pub norm_eps: Option<f64>,
    /// Values per pixel.
    pub channels: Option<usize>,
    /// The image values that become 0 and 1, one pair for all channels or a pair for each; `None` means bytes, 0 to 255.
    pub range: Option<Vec<[f32; 2]>>,
    /// Mean of each channel, on the scale of 0 to 1.
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of each channel, on the scale of 0 to 1.
    pub std: Option<Vec<f32>>,
    /// Side of a patch in pixels.
    pub patch_size: Option<usize>,
    /// Side in pixels of the images that the backbone was trained on.
    pub image_size: Option<usize>,
    /// When the file was written, RFC 3339 in UTC.
    pub date: Option<String>,
    /// The program that wrote it and its version.
    pub program: Option<String>,
}

impl Stated {
    /// Reads the metadata of a safetensors file written by this program. A value that cannot be parsed is an error
    /// that names its key.
    pub fn of_metadata(metadata: &BTreeMap<String, String>) -> Result<Self, String> {
        fn value<T: serde::de::DeserializeOwned>(
            metadata: &BTreeMap<String, String>,
            key: &str,
        ) -> Result<Option<T>, String> {
            let parse = |text: &String| {
                serde_json::from_str(text).map_err(|e| format!("its metadata have {key} = {text:?}: {e}"))
            };
            metadata.get(key).map(parse).transpose()
        }
        if !metadata.contains_key("num_heads") {
            return Ok(Self::default());
        }
        let stated = Self {
            by: "its metadata".into(),
            num_heads: value(metadata, "num_heads")?,
            norm_eps: value(metadata, "norm_eps")?,
            channels: value(metadata, "channels")?,
            range: range(metadata)?,
            mean: value(metadata, "mean")?,
            std: value(metadata, "std")?,
            patch_size: value(metadata, "patch_size")?,
            image_size: value(metadata, "image_size")?,
            date: metadata.get("date").cloned(),
            program: metadata.get("program").cloned(),
        };
        stated.checked()
    }

    /// Refuses means and standard deviations that do not match the channels or cannot be divided by.
    fn checked(self) -> Result<Self, String> {
        for (key, values) in [("mean", &self.mean), ("std", &self.std)] {
            let (Some(values), Some(channels)) = (values, self.channels) else { continue };
            if values.len() != channels || values.iter().any(|v| !v.is_finite() || key == "std" && *v <= 0.) {
                return Err(format!("{} have {key} = {values:?}, which do not fit {channels} channels", self.by));
            }
        }
        let Some(pairs) = &self.range else { return Ok(self) };
        let fits = pairs.len() == 1 || self.channels.is_none_or(|channels| channels == pairs.len());
        match pairs.iter().find(|[low, high]| !(low < high && low.is_finite() && (high - low).is_finite())) {
            Some([low, high]) => Err(format!("{} have range = [{low}, {high}], which is none", self.by)),
            None if !fits => Err(format!("{} have {} ranges, which do not fit the channels", self.by, pairs.len())),
            None => Ok(self),
        }
    }

    /// Reads what `config.json` and `preprocessor_config.json` beside `path`, as transformers and timm write them,
    /// state of a backbone of this width and depth. Missing files and files of another model state nothing.
    ///
    /// # Errors
    /// A description of an activation other than GELU, or of blocks that compute something else under the same names.
    pub fn beside(path: &Path, width: usize, depth: usize) -> Result<Self, String> {
        let read = |name: &str| -> Option<Value> {
            let text = open_file(&path.with_file_name(name)).and_then(std::io::read_to_string).ok()?;
            serde_json::from_str(&text).ok()
        };
        let Some(config) = read("config.json") else { return Ok(Self::default()) };
        let number = |of: &Value, key: &str| of.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let list = |of: &Value, key: &str| -> Option<Vec<f32>> {
            of.get(key)?.as_array()?.iter().map(|v| Some(v.as_f64()? as f32)).collect()
        };
        if let Some(timm) = config.get("pretrained_cfg") {
            if number(&config, "num_features").is_some_and(|found| found != width) {
                return Ok(Self::default());
            }
            let name = config.get("architecture").and_then(Value::as_str).unwrap_or_default();
            if ["quickgelu", "siglip", "clip"].iter().any(|part| name.contains(part)) {
                return Err(format!("config.json beside it says {name}, {OTHER_ACTIVATION}"));
            }
            let arguments = config.get("model_args").cloned().unwrap_or_default();
            if name.contains("_rpn_") || arguments.get("block_fn").is_some_and(|block| !block.is_null()) {
                return Err(format!("config.json beside it says {name}, {OTHER_BLOCKS}"));
            }
            if let Some(act) = arguments.get("act_layer").and_then(Value::as_str)
                && act != "gelu"
            {
                return Err(format!("config.json beside it says {act}, {OTHER_ACTIVATION}"));
            }
            return Self {
                by: "config.json".into(),
                num_heads: number(&arguments, "num_heads").or_else(|| heads_in_timm(name, width)),
                norm_eps: arguments.get("norm_eps").and_then(Value::as_f64),
                channels: timm.get("input_size").and_then(|v| v.get(0)?.as_u64()).map(|n| n as usize),
                mean: list(timm, "mean"),
                std: list(timm, "std"),
                ..Self::default()
            }
            .checked();
        }
        let of_this = number(&config, "hidden_size").is_some_and(|found| found == width)
            && number(&config, "num_hidden_layers").is_none_or(|found| found == depth);
        if !of_this {
            return Ok(Self::default());
        }
        if let Some(act) = config.get("hidden_act").and_then(Value::as_str)
            && !["gelu", "gelu_python"].contains(&act)
        {
            return Err(format!("config.json beside it says {act}, {OTHER_ACTIVATION}"));
        }
        let images = read("preprocessor_config.json").unwrap_or_default();
        let channels = number(&config, "num_channels");
        let (mean, std) = match images.get("do_normalize").and_then(Value::as_bool) {
            Some(false) => (Some(vec![0.; channels.unwrap_or(3)]), Some(vec![1.; channels.unwrap_or(3)])),
            _ => (list(&images, "image_mean"), list(&images, "image_std")),
        };
        let scale = rescaled(&images)?;
        let by_scale = |values: Vec<f32>, shift: f32| values.iter().map(|v| (v + shift) / scale.of_one).collect();
        let mean = mean.map(|values| by_scale(values, scale.shift));
        let std = std.map(|values| by_scale(values, 0.));
        let by = if mean.is_some() { "config.json and preprocessor_config.json" } else { "config.json" };
        Self {
            by: by.into(),
            num_heads: number(&config, "num_attention_heads"),
            norm_eps: config.get("layer_norm_eps").and_then(Value::as_f64),
            channels,
            mean,
            std,
            image_size: number(&config, "image_size"),
            patch_size: number(&config, "patch_size"),
            ..Self::default()
        }
        .checked()
    }
}

/// How a program transforms image values (bytes divided by 255) before it subtracts their mean.
struct Scale {
    /// The value that 1 is scaled to.
    of_one: f32,
    /// The value that is subtracted after scaling.
    shift: f32,
}

/// The scale of `preprocessor_config.json`, whose factor applies to bytes.
fn rescaled(images: &Value) -> Result<Scale, String> {
    let is = |key: &str| images.get(key).and_then(Value::as_bool);
    let factor = match is("do_rescale") {
        Some(false) => 1.,
        _ => images.get("rescale_factor").and_then(Value::as_f64).unwrap_or(1. / 255.),
    };
    let of_one = factor * 255.;
    if !(of_one > 0. && of_one.is_finite()) {
        return Err(format!("preprocessor_config.json beside it has rescale_factor {factor}, which is none"));
    }
    let shift = if is("offset").or(is("rescale_offset")) == Some(true) { 1. } else { 0. };
    // 1/255 in decimals is not exact.
    Ok(Scale { of_one: if (of_one - 1.).abs() < 1e-6 { 1. } else { of_one as f32 }, shift })
}

/// Models of timm that do not have one head per 64 channels: prefix of their names, width, heads.
const HEADS_IN_TIMM: [(&str, usize, usize); 8] = [
    ("vit_huge_", 1280, 16),
    ("deit3_huge_", 1280, 16),
    ("vit_giant_", 1408, 16),
    ("vit_gigantic_", 1664, 16),
    ("vit_so400m_", 1152, 16),
    ("vit_base_patch16_gap_", 768, 16),
    ("test_vit", 64, 2),
    ("test_vit", 96, 3),
];

fn heads_in_timm(architecture: &str, width: usize) -> Option<usize> {
    let of_this = |entry: &&(&str, usize, usize)| architecture.starts_with(entry.0) && entry.1 == width;
    HEADS_IN_TIMM.iter().find(of_this).map(|entry| entry.2)
}

/// `[low, high]`, or a list of such pairs.
fn range(metadata: &BTreeMap<String, String>) -> Result<Option<Vec<[f32; 2]>>, String> {
    let parse = |text: &String| {
        let one = serde_json::from_str(text).map(|pair| vec![pair]);
        one.or_else(|_| serde_json::from_str(text)).map_err(|e| format!("its metadata have range = {text:?}: {e}"))
    };
    metadata.get("range").map(parse).transpose()
}

const OTHER_BLOCKS: &str = "whose blocks compute something else under the names of a plain ViT (its norms stand after the \
                            branches, or block_fn), which is not done here; take a plain ViT, such as DINO, DINOv2, MAE or DeiT";
const OTHER_ACTIVATION: &str = "which has another activation than the exact GELU that is computed here; DINO, DINOv2, MAE, \
                                DeiT and timm's augreg models have that one";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_that_contradict_themselves_are_refused() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string()));
            Stated::of_metadata(&pairs.chain([("num_heads".to_string(), "3".to_string())]).collect())
        };
        let stated = of(&[("channels", "2"), ("mean", "[0.5,0.25]"), ("std", "[1,2]"), ("range", "[0,4095]")]);
        let stated = stated.unwrap();
        assert_eq!((stated.num_heads, stated.channels, stated.range), (Some(3), Some(2), Some(vec![[0., 4095.]])));
        assert_eq!(stated.mean, Some(vec![0.5, 0.25]));
        for (key, bad) in [
            ("mean", "[0.5]"),
            ("std", "[0,1]"),
            ("range", "[5,5]"),
            ("range", "[[0,1],[0,1],[0,1]]"),
            ("mean", "half"),
        ] {
            let error = of(&[("channels", "2"), (key, bad)]).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
        assert_eq!(Stated::of_metadata(&BTreeMap::new()), Ok(Stated::default()));
    }
}
