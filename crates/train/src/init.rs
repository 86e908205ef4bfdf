//! Weights that a new run begins with.

use crate::{Error, Trainer, checkpoint};
use candle_core::{Device, Tensor};
use selfpatch_nn::Params;
use selfpatch_nn::weights::{Weights, check_strict, read};
use selfpatch_vit::Vit;
use std::collections::BTreeMap;
use std::path::Path;

/// Puts the weights at `path` into both networks, and says in words what was taken. `path` is
/// - a run or a checkpoint of this program: student and teacher, heads included;
/// - a training checkpoint (`.pth`) of the published program with `student` and `teacher`: the same;
/// - any other weight file: its backbone, for both. Positions are resized to the grid of this run; a class token
///   and a classifier are left out; a final norm becomes that of the class attention.
///
/// Moments, centres and schedules begin anew. Shapes that do not fit are an error that lists them.
pub(crate) fn init_from(path: &Path, trainer: &Trainer) -> Result<String, Error> {
    let shown = path.display();
    if path.is_dir() {
        let found = match path.join("state.json").exists() {
            true => Some(checkpoint::usable(path)?),
            false => checkpoint::newest(path, |_| ())?,
        };
        let reason = "is neither a run with a checkpoint nor a checkpoint (--init-from)";
        let found = found.ok_or_else(|| Error::File { path: path.into(), reason: reason.into() })?;
        for (name, params) in networks(trainer) {
            let file = read(&found.path.join(format!("{name}.safetensors")), &Device::Cpu)?;
            assign(params, &file.tensors, &file.path)?;
        }
        return Ok(format!("both networks begin as those of {}", found.path.display()));
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
                assign(params, tensors, path)?;
            }
            return Ok(format!("both networks begin as those of {shown}"));
        }
    }
    let student = trainer.student();
    let config = student.backbone.config();
    let vit = Vit::load(path, None, config.num_heads, &Device::Cpu)?;
    let file: Weights = read(path, &Device::Cpu)?.select(None)?.without_prefixes();
    let extra = usize::from(file.tensors.contains_key("cls_token"));
    let mut tensors = BTreeMap::new();
    for (name, t) in file.tensors {
        let name = match name.as_str() {
            "cls_token" | "head.weight" | "head.bias" => continue,
            "norm.weight" | "norm.bias" => format!("ca_head.{name}"),
            _ => format!("backbone.{name}"),
        };
        tensors.insert(name, t);
    }
    let positions = vit.positions(config.image_size, config.image_size)?;
    let positions = positions.narrow(1, extra, positions.dim(1)? - extra)?;
    tensors.insert("backbone.pos_embed".into(), positions);
    let wanted = |name: &str| name.starts_with("backbone.") || tensors.contains_key(name);
    for (_, params) in networks(trainer) {
        let mut shapes = params.shapes();
        shapes.retain(|(name, _)| wanted(name));
        check_strict(&shapes, &tensors, path)?;
        let mut all: BTreeMap<String, Tensor> = params.tensors().into_iter().collect();
        all.extend(tensors.clone());
        params.assign(all.iter().map(|(name, t)| (name.as_str(), t)))?;
    }
    Ok(format!("both backbones begin as that of {shown}"))
}

fn networks(trainer: &Trainer) -> [(&'static str, &Params); 2] {
    [("student", &trainer.student_params), ("teacher", &trainer.teacher_params)]
}

fn assign(params: &Params, tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<(), Error> {
    check_strict(&params.shapes(), tensors, path)?;
    Ok(params.assign(tensors.iter().map(|(name, t)| (name.as_str(), t)))?)
}
