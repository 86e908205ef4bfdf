//! Where a non-finite number came from.

use crate::{Error, Hyper, Network, Trainer};
use candle_core::{DType, Result, Tensor};
use selfpatch_nn::Backbone;
use selfpatch_nn::{Params, autocast};
use selfpatch_vit::Pass;

/// The first place, in the order of the computation, with a non-finite number, in words: pixels,
/// weights, then each layer of the teacher and of the student, with the sample and the view. `names`: names of the
/// images of the batch. The error of the step tells which gradient, if the forward pass is finite.
///
/// Each layer is computed anew, without stochastic depth: slow, for a moment when speed no longer matters.
pub fn diagnose(
    trainer: &Trainer,
    crops: &[Tensor],
    names: &[String],
    hyper: &Hyper,
    error: &Error,
) -> std::result::Result<String, Error> {
    autocast(trainer.precision(), || place(trainer, crops, names, hyper, error))
}

fn place(
    trainer: &Trainer,
    crops: &[Tensor],
    names: &[String],
    hyper: &Hyper,
    error: &Error,
) -> std::result::Result<String, Error> {
    let first = views_before(crops, names.len())?;
    let sample = |crop: usize, row: usize| {
        let name = names.get(row % names.len().max(1)).map_or("?", String::as_str);
        format!("view {} of {name}", first[crop] + row / names.len().max(1))
    };
    for (i, crop) in crops.iter().enumerate() {
        if let Some(row) = bad_row(crop)? {
            return Ok(format!("first seen in the pixels of {}", sample(i, row)));
        }
    }
    for (who, params) in [("teacher", &trainer.teacher_params), ("student", &trainer.student_params)] {
        if let Some(name) = bad_parameter(params)? {
            return Ok(format!("first seen in the weights of the {who}, {name}, before this step"));
        }
    }
    let patch = ("patch".to_string(), trainer.patch.center().value().clone());
    for (name, state) in trainer.objective.state().into_iter().chain([patch]) {
        if bad_row(&state)?.is_some() {
            return Ok(format!("first seen in the {name} centre, before this step"));
        }
    }
    for (who, network) in [("teacher", trainer.teacher()), ("student", trainer.student())] {
        for (i, crop) in crops.iter().enumerate() {
            if let Some((layer, row)) = bad_layer(network, crop)? {
                return Ok(format!("first seen in {layer} of the {who}, {}", sample(i, row)));
            }
        }
    }
    let patches = trainer.student().backbone.patches(crops)?;
    let teacher = trainer.teacher_rows(&patches)?;
    let student = trainer.student_rows(&patches, &Pass::default(), hyper.at.epoch)?;
    let mut stages = vec![("the class head of the teacher", teacher.class.logits()?)];
    stages.extend(teacher.patch.as_ref().map(|p| ("the patch head of the teacher", p.rows.clone())));
    stages.push(("the class head of the student", student.class.logits()?));
    stages.extend(student.patch.as_ref().map(|p| ("the patch head of the student", p.rows.clone())));
    for (stage, rows) in stages {
        if let Some(row) = bad_row(&rows)? {
            let place = if stage.contains("class") { sample(0, row) } else { format!("row {row}") };
            return Ok(format!("first seen in {stage}, {place}"));
        }
    }
    Ok(match error {
        Error::NonFiniteGradient { parameter } | Error::Overflow { parameter } => {
            format!("the forward pass is finite, first seen in the gradient of {parameter}")
        }
        _ => "all layers are finite, first seen in the loss".into(),
    })
}

/// Views in the crops before each size.
fn views_before(crops: &[Tensor], images: usize) -> Result<Vec<usize>> {
    let mut sum = 0;
    crops
        .iter()
        .map(|crop| {
            let before = sum;
            sum += crop.dim(0)? / images.max(1);
            Ok(before)
        })
        .collect()
}

/// The first layer of the backbone with a non-finite number, and the number of the crop.
fn bad_layer(network: &Network, crop: &Tensor) -> Result<Option<(String, usize)>> {
    let vit = &network.backbone;
    if let Some(row) = bad_row(&vit.tokens(crop)?)? {
        return Ok(Some(("the patch embedding".into(), row)));
    }
    for layer in 1..=vit.config().depth {
        if let Some(row) = bad_row(&vit.block_features(crop, layer, false)?)? {
            return Ok(Some((format!("block {layer}"), row)));
        }
    }
    Ok(None)
}

/// The first entry along the first dimension that holds a non-finite number.
fn bad_row(t: &Tensor) -> Result<Option<usize>> {
    let rows = t.detach().to_dtype(DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
    Ok(rows.iter().position(|row| row.iter().any(|v| !v.is_finite())))
}

fn bad_parameter(params: &Params) -> Result<Option<String>> {
    for (name, t) in params.tensors() {
        if bad_row(&t.flatten_all()?.unsqueeze(0)?)?.is_some() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
