//! Finds where in a weight file a backbone is: under which keys, behind which prefix.

use selfpatch_weights::{Place, Weights, WeightsError};
use std::collections::BTreeSet;

/// Naming scheme of a backbone's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// DINO, DINOv2, timm, MAE, DeiT, and SelfPatch itself.
    Timm,
    /// Hugging Face transformers: ViT, DeiT, ViTMAE, Dinov2.
    Transformers,
}

impl Naming {
    /// The projects whose names these are, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Timm => "the names of DINO and timm",
            Self::Transformers => "the names of Hugging Face transformers",
        }
    }
}

/// A backbone that a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The keys that lead to its dict.
    pub keys: Vec<String>,
    /// The prefix of its names in that dict, with the last dot; may be empty.
    pub prefix: String,
    pub naming: Naming,
}

impl Candidate {
    /// Keys and prefix of its names, joined by dots, without the last dot.
    pub fn path(&self) -> String {
        let keys = self.keys.iter().map(|key| format!("{key}."));
        let path = keys.chain([self.prefix.clone()]).collect::<String>();
        path.trim_end_matches('.').to_string()
    }

    fn parts(&self) -> Vec<String> {
        self.path().split('.').filter(|part| !part.is_empty()).map(str::to_string).collect()
    }

    /// Whether `key`, which may have several parts, is on the path to the candidate.
    fn is_under(&self, key: &str) -> bool {
        let key: Vec<&str> = key.split('.').filter(|part| !part.is_empty()).collect();
        !key.is_empty() && self.parts().windows(key.len()).any(|parts| parts == key)
    }

    /// Sort key of the preference when no network is asked for; the least is taken.
    fn rank(&self) -> Vec<usize> {
        let rank = |part: &String| PREFERRED.iter().position(|preferred| preferred == part);
        let ranks: Vec<usize> = self.parts().iter().filter_map(rank).collect();
        if ranks.is_empty() { vec![PREFERRED.len()] } else { ranks }
    }
}

/// Networks of training checkpoints, the preferred first.
const PREFERRED: [&str; 11] = [
    "teacher",
    "student",
    "state_dict",
    "model",
    "base_encoder",
    "momentum_encoder",
    "encoder_q",
    "encoder_k",
    "state_dict_ema",
    "model_ema",
    "ema",
];

/// A name that every backbone has, and only once.
const ANCHORS: [(&str, Naming); 2] = [
    ("patch_embed.proj.weight", Naming::Timm),
    ("embeddings.patch_embeddings.projection.weight", Naming::Transformers),
];

/// The backbone that `key` selects, or the preferred one, together with the other backbones in the file. A file that
/// holds only one backbone needs no key.
pub(crate) fn find(file: &Weights, key: Option<&str>) -> Result<(Candidate, Vec<Candidate>), WeightsError> {
    let places = file.places();
    let mut candidates = Vec::new();
    for place in &places {
        for name in &place.names {
            for (anchor, naming) in ANCHORS {
                let Some(prefix) = name.strip_suffix(anchor) else { continue };
                if prefix.is_empty() || prefix.ends_with('.') {
                    let (keys, prefix) = (place.keys.clone(), prefix.to_string());
                    candidates.push(Candidate { keys, prefix, naming });
                }
            }
        }
    }
    let refused = |reason: String| WeightsError::Backbone { path: file.path.clone(), reason };
    if candidates.is_empty() {
        return Err(refused(format!(
            "these are not the weights of a ViT backbone that can be read: {}",
            what(&places)
        )));
    }
    let every = candidates.clone();
    let all: Vec<String> = every.iter().map(Candidate::path).collect();
    if let Some(key) = key
        && all.iter().any(|path| !path.is_empty())
    {
        candidates.retain(|candidate| candidate.is_under(key));
        if candidates.is_empty() {
            return Err(WeightsError::NoSuchKey { path: file.path.clone(), key: key.into(), available: keys(&all) });
        }
    }
    candidates.sort_by_key(Candidate::rank);
    let best = candidates[0].clone();
    if let Some(tie) = candidates.get(1)
        && tie.rank() == best.rank()
    {
        let paths: Vec<String> = candidates.iter().map(Candidate::path).collect();
        return Err(refused(format!(
            "holds {} backbones that are as good as each other, {}; choose one by --checkpoint-key",
            candidates.len(),
            paths.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ")
        )));
    }
    let others = every.into_iter().filter(|other| *other != best).collect();
    Ok((best, others))
}

/// The distinct parts of all paths.
fn keys(paths: &[String]) -> String {
    let parts: BTreeSet<&str> = paths.iter().flat_map(|path| path.split('.')).filter(|part| !part.is_empty()).collect();
    parts.into_iter().collect::<Vec<_>>().join(", ")
}

/// Explanations for a file without any anchor: part of a name, and the kind of model that has such names.
const STRANGERS: [(&str, &str); 24] = [
    ("patch_embed.backbone.", HYBRID),
    ("patch_embeddings.backbone.", HYBRID),
    ("patch_embed.proj.0.", HYBRID),
    ("patch_embed.conv", HYBRID),
    ("relative_position_bias_table", SWIN),
    ("relative_position_index", SWIN),
    ("visual.transformer.resblocks", CLIP),
    ("transformer.resblocks", CLIP),
    ("vision_model.", CLIP),
    ("embeddings.patch_embedding.", CLIP),
    ("embeddings.class_embedding", CLIP),
    ("embeddings.patch_embeddings.weight", ROTARY), // DINOv3 of transformers
    ("rel_pos_h", WINDOWS),
    ("embeddings.projection.weight", WINDOWS), // ViTDet of transformers
    ("patch_embed.projection.", WINDOWS),      // SAM of transformers
    ("patch_embeddings.0.proj", PYRAMID),
    ("patch_embed1.proj", PYRAMID),
    ("mlp_tokens.", "it is an MLP-Mixer, which has no attention; take a plain ViT, such as DINO, DINOv2, MAE or DeiT"),
    ("embeds.proj.", "it is a NaFlexViT of timm, which has other names and sizes; take the plain ViT of that size"),
    ("encoder_layer_0.", "it has torchvision's names; load it in timm (vit_*_patch*) and save that model's state_dict"),
    ("layer1.0.conv1", CONVOLUTION),
    ("stages.0.", CONVOLUTION),
    (".bn1.", CONVOLUTION),
    ("features.0.weight", CONVOLUTION),
];

pub(crate) const ROTARY: &str = "positions are rotary (DINOv3, EVA-02, RoPE-ViT), which is not computed here; the nearest models are those of \
                      DINOv2, also with registers";

pub(crate) const HYBRID: &str = "patches are made by a stem of convolutions (hybrid ViT); take the plain model of that size, \
                                 such as timm's vit_small_patch16_224";
const SWIN: &str =
    "it has windows or relative positions (Swin, BEiT); take a plain ViT, such as DINO, DINOv2, MAE or DeiT";
pub(crate) const CLIP: &str = "it is a CLIP or SigLIP tower, which has a norm before the blocks, another activation or pooling \
                               by attention; take a plain ViT, such as DINO, DINOv2, MAE or DeiT";
const CONVOLUTION: &str = "it is a convolutional network; take a ViT, such as DINO's vit_small";

const WINDOWS: &str = "attention has windows or relative positions (SAM, ViTDet), which are not computed here; take a plain \
                       ViT, such as DINO, DINOv2, MAE or DeiT";
pub(crate) const PYRAMID: &str = "it has stages of several widths (SegFormer, PVT, Swin); take a plain ViT, such as DINO, \
                                  DINOv2, MAE or DeiT";

fn what(places: &[Place]) -> String {
    let names = || places.iter().flat_map(|place| &place.names);
    if names().next().is_none() {
        return "no dict in it, up to eight deep, holds tensors (lists and tuples are not looked into); save the weights \
                themselves, torch.save(model.state_dict(), path)"
            .into();
    }
    for (part, reason) in STRANGERS {
        if names().any(|name| name.contains(part)) {
            return reason.into();
        }
    }
    let mut listed: Vec<&str> = names().take(6).map(String::as_str).collect();
    if names().nth(6).is_some() {
        listed.push("…");
    }
    let (first, second) = (ANCHORS[0].0, ANCHORS[1].0);
    format!("neither {first} nor {second} is there, behind any prefix; its names are {}", listed.join(", "))
}
