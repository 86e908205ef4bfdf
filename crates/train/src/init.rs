//! Weights that a new run begins with.

use crate::config::Data;
use crate::{Config, Error, Trainer};
use candle_core::{DType, Device, Tensor};
use selfpatch_datasets::Range;
use selfpatch_nn::Params;
use selfpatch_run::{Found, checkpoint};
use selfpatch_vit::{Pretrained, Stated, VitConfig, summary};
use selfpatch_weights::{check_strict, read};
use std::collections::BTreeMap;
use std::path::Path;

/// The weights that a run begins with, in words.
pub(crate) struct Begun {
    /// Which weights were taken from where.
    pub told: String,
    /// How the images that the weights were trained on differ from those of `data`, where both are known.
    pub images: Option<String>,
}

/// Puts the weights at `path` into both networks, and says in words what was taken. `path` is
/// - a run or a checkpoint of this program: student and teacher, heads included;
/// - a training checkpoint (`.pth`) of the published program with `student` and `teacher`: both, heads included;
/// - any other weight file: its backbone, for both, as [`Pretrained::read`] finds it. Positions are resized to the grid
///   of this run; class token, registers and heads are left out, which is said; a final norm becomes that of the class
///   attention.
///
/// Moments, centres and schedules begin anew. Shapes, channels and heads that do not fit are an error that lists them.
pub(crate) fn init_from(path: &Path, trainer: &Trainer, data: &Data) -> Result<Begun, Error> {
    let shown = path.display();
    if path.is_dir() {
        let found: Option<Found<Config>> = match path.join("state.json").exists() {
            true => Some(checkpoint::usable(path)?),
            false => checkpoint::newest(path, |_| ())?,
        };
        let reason = "is neither a run with a checkpoint nor a checkpoint (--init-from)";
        let found = found.ok_or_else(|| Error::File { path: path.into(), reason: reason.into() })?;
        let mut images = None;
        for (name, params) in networks(trainer) {
            let file = found.tensors(name, &Device::Cpu)?;
            params.load(&file.tensors, &file.path)?;
            let refused = |reason| Error::File { path: file.path.clone(), reason };
            images = other_images(&Stated::of_metadata(&file.metadata).map_err(refused)?, data);
        }
        return Ok(Begun { told: format!("both networks begin as those of {}", found.path.display()), images });
    }
    let whole = |key: &str| Some(read(path, &Device::Cpu).ok()?.select(Some(key)).ok()?.tensors);
    if let (Some(student), Some(teacher)) = (whole("student"), whole("teacher")) {
        let bare = |tensors: BTreeMap<String, Tensor>| -> BTreeMap<String, Tensor> {
            let name = |name: String| name.strip_prefix("module.").map(str::to_string).unwrap_or(name);
            tensors.into_iter().map(|(n, t)| (name(n), t)).collect()
        };
        let sets = [bare(student), bare(teacher)];
        if sets[0].keys().any(|name| name.starts_with("c_head.")) {
            for ((_, params), tensors) in networks(trainer).into_iter().zip(&sets) {
                params.load(tensors, path)?;
            }
            return Ok(Begun { told: format!("both networks begin as those of {shown}"), images: None });
        }
    }
    let heads = trainer.student().backbone.config().num_heads;
    let read = |heads: usize| Pretrained::read(path, None, heads, &Device::Cpu);
    let found = read(heads).or_else(|e| match read(0) {
        // Of a width that the heads of this run do not divide: its shape is told below.
        Ok(found) if !found.config.embed_dim.is_multiple_of(heads) => Ok(found),
        _ => Err(e),
    })?;
    let told = backbone(path, trainer, &found)?;
    let images = other_images(&found.stated, data);
    Ok(Begun { told: format!("both backbones begin as that of {shown}{told}"), images })
}

/// How images are stated to be normalised, and how this run does it, where the two differ.
fn other_images(stated: &Stated, data: &Data) -> Option<String> {
    let (mean, std) = (stated.mean.as_ref()?, stated.std.as_ref()?);
    let bytes = || vec![[0., 255.]];
    let theirs = stated.range.clone().unwrap_or_else(bytes);
    let ours = match &data.range {
        None => bytes(),
        Some(Range::All(pair)) => vec![*pair],
        Some(Range::Each(pairs)) => pairs.clone(),
    };
    if (&theirs, mean, std) == (&ours, &data.mean, &data.std) {
        return None;
    }
    let words = |range: &[[f32; 2]], mean: &[f32], std: &[f32]| {
        let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
        let range: Vec<String> = range.iter().map(|[low, high]| format!("{low} to {high}")).collect();
        format!("values {}, mean {}, deviation {}", range.join(", "), list(mean), list(std))
    };
    Some(format!(
        "the weights it begins with were trained on images of {} (by {}); this run shows them {} (data.range, data.mean, data.std)",
        words(&theirs, mean, std),
        stated.by,
        words(&ours, &data.mean, &data.std)
    ))
}

/// Puts the backbone of a weight file into both networks, and says what was found and left out.
fn backbone(path: &Path, trainer: &Trainer, found: &Pretrained) -> Result<String, Error> {
    let own = trainer.student().backbone.config();
    let refused = |reason: String| Error::File { path: path.into(), reason };
    let theirs = &found.config;
    if theirs.in_channels != own.in_channels {
        let (theirs, own) = (theirs.in_channels, own.in_channels);
        return Err(refused(format!("takes images of {theirs} channels, this run has {own} (data.channels)")));
    }
    let other = others(theirs, own);
    if !other.is_empty() {
        let flags: String = other.iter().map(|(name, theirs, _)| format!(" --set model.{name}={theirs}")).collect();
        let other: Vec<String> =
            other.iter().map(|(name, theirs, own)| format!("{name} {theirs}, not {own}")).collect();
        let other = other.join("; ");
        return Err(refused(format!("is of another shape than this run: {other}; --arch custom{flags} fits it")));
    }
    let mut left: Vec<String> = found.beside.keys().cloned().collect();
    let mut tensors = BTreeMap::new();
    for (name, tensor) in &found.tensors {
        let name = match name.as_str() {
            "cls_token" | "reg_token" | "fc_norm.weight" | "fc_norm.bias" => {
                left.push(name.clone());
                continue;
            }
            "pos_embed" => continue,
            "norm.weight" | "norm.bias" => format!("ca_head.{name}"),
            _ => format!("backbone.{name}"),
        };
        tensors.insert(name, tensor.clone());
    }
    let vit = found.vit(&Device::Cpu)?;
    let positions = vit.positions(own.image_size, own.image_size)?;
    let class = usize::from(theirs.class_token);
    let positions = positions.narrow(1, class, positions.dim(1)? - class)?;
    tensors.insert("backbone.pos_embed".into(), positions);
    let mut notes = found.notes.clone();
    if own.qkv_bias && !theirs.qkv_bias {
        for block in 0..theirs.depth {
            let zeros = Tensor::zeros(3 * theirs.embed_dim, DType::F32, &Device::Cpu)?;
            tensors.insert(format!("backbone.blocks.{block}.attn.qkv.bias"), zeros);
        }
        notes.push("it has no biases of queries, keys and values: they begin at 0".into());
    }
    if theirs.norm_eps != own.norm_eps {
        notes
            .push(format!("its norms add {:e} to the variance, those of this run {:e}", theirs.norm_eps, own.norm_eps));
    }
    if theirs.table_side() != own.table_side() {
        notes.push(format!(
            "positions for {0} x {0} patches are resized to {1} x {1} by the rule of {2}",
            theirs.table_side(),
            own.table_side(),
            theirs.positions.name()
        ));
    }
    let wanted = |name: &str| name.starts_with("backbone.") || tensors.contains_key(name);
    for (_, params) in networks(trainer) {
        let mut shapes = params.shapes();
        shapes.retain(|(name, _)| wanted(name));
        check_strict(&shapes, &tensors, path)?;
        let mut all: BTreeMap<String, Tensor> = params.tensors().into_iter().collect();
        all.extend(tensors.clone());
        params.load(&all, path)?;
    }
    let place = if found.place.is_empty() { String::new() } else { format!(" ({})", found.place) };
    let left = match summary(left.iter().map(String::as_str)) {
        text if text.is_empty() => text,
        text => format!("; left out: {text}"),
    };
    let notes: String = notes.iter().map(|note| format!("; {note}")).collect();
    Ok(format!("{place}{left}{notes}"))
}

/// The sizes that `model` fixes and in which backbones differ: name, size in the file, size in this run.
fn others(theirs: &VitConfig, own: &VitConfig) -> Vec<(&'static str, usize, usize)> {
    let sizes = |c: &VitConfig| [c.embed_dim, c.depth, c.num_heads, c.mlp_ratio, c.patch_size];
    let names = ["embed_dim", "depth", "num_heads", "mlp_ratio", "patch_size"];
    let all = names.into_iter().zip(sizes(theirs).into_iter().zip(sizes(own)));
    all.filter(|(_, (theirs, own))| theirs != own).map(|(name, (theirs, own))| (name, theirs, own)).collect()
}

fn networks(trainer: &Trainer) -> [(&'static str, &Params); 2] {
    [("student", &trainer.student_params), ("teacher", &trainer.teacher_params)]
}
