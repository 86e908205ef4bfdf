//! Fixtures of the objectives' folder that belong to this method.

use super::fixture::Fixture;
use super::matching::{integers, table};
use super::report::{Report, Tolerance};
use anyhow::{Context, Result, anyhow};
use candle_core::{DType, Tensor, Var};
use candle_nn::VarBuilder;
use selfpatch_aggregation::Aggregator;
use selfpatch_losses::{CenterViews, CropGroup, Dino, PatchLoss, TeacherViews};
use selfpatch_matching::{Border, Neighbours, positives};
use selfpatch_nn::{Gradients, Params, backward};
use selfpatch_vit::{Vit, VitConfig};

/// The suggested tolerance: 2e-5 of the largest value.
const TOLERANCE: Tolerance = Tolerance::Relative(2e-5);
const DTYPE: DType = DType::F32;

/// DINO's ViT with class token at several sizes, and gradients of a sum over class tokens.
pub fn vit_cls(f: &Fixture, report: &mut Report) -> Result<()> {
    let weights = f.weights("par.");
    let mut config = VitConfig::of_weights(&weights, f.int("heads")?)?;
    config.norm_eps = f.number("ln_eps")?;
    let vit = Vit::new(&config, f.builder(&weights, DTYPE))?;
    for size in f.under("in.img_") {
        let image = f.get(&format!("in.img_{size}"))?;
        let tokens = vit.forward(image)?;
        report.close("class token", &vit.cls(&tokens)?, f.get(&format!("out.cls_{size}"))?, TOLERANCE)?;
        report.close("tokens", &tokens, f.get(&format!("out.tokens_{size}"))?, TOLERANCE)?;
        let attention = vit.last_attention(image)?;
        report.close("attention", &attention, f.get(&format!("out.attn_last_{size}"))?, TOLERANCE)?;
    }
    let params = assigned(f, &weights, |vb| Vit::new(&config, vb).map(drop))?;
    let vit = Vit::new(&config, params.builder(DTYPE, f.device()))?;
    let size = f.under("grad.img_").next().context("the fixture has no gradient of an image")?;
    let image = Var::from_tensor(f.get(&format!("in.img_{size}"))?)?;
    let loss = (vit.cls(&vit.forward(image.as_tensor())?)? * f.get("in.co")?)?.sum_all()?;
    report.close("loss", &loss, f.get("out.loss")?, TOLERANCE)?;
    let grads = backward(&loss)?;
    gradient(f, report, &grads, &image, &format!("img_{size}"))?;
    parameter_gradients(f, report, &grads, &params)
}

/// The token-only backbone with the class-attention module, student and teacher side.
pub fn vit_tokens(f: &Fixture, report: &mut Report) -> Result<()> {
    let all = f.weights("par.");
    let head_weights = f.weights("par.head.");
    let backbone: std::collections::BTreeMap<_, _> =
        all.iter().filter(|(k, _)| !k.starts_with("head.")).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut config = VitConfig::of_weights(&backbone, f.int("heads")?)?;
    config.norm_eps = f.number("ln_eps")?;
    let head_config = super::aggregation::config(&head_weights, f.int("heads")?, config.norm_eps)?;
    let params = assigned(f, &all, |vb| {
        Vit::new(&config, vb.clone())?;
        Aggregator::new(&head_config, vb.pp("head")).map(drop)
    })?;
    let vb = params.builder(DTYPE, f.device());
    let (vit, head) = (Vit::new(&config, vb.clone())?, Aggregator::new(&head_config, vb.pp("head"))?);

    let image = Var::from_tensor(f.get("in.img")?)?;
    let tokens = vit.forward(image.as_tensor())?;
    report.close("backbone", &tokens, f.get("out.backbone")?, TOLERANCE)?;
    let (_, _, height, width) = image.dims4()?;
    let (rows, cols) = config.grid(height, width)?;
    // Tokens in half precision are too coarse to choose the same positives, so the stored ones choose.
    let choosing = if f.computing.is_half() { f.get("out.backbone")? } else { &tokens };
    let chosen = positives(choosing, &Neighbours::new(rows, cols, 3, Border::Torus)?, f.int("k")?)?;
    report.same("positives", &integers(&chosen.ids)?, &integers(f.get("out.positives")?)?);
    let cls = head.image(&tokens)?.unsqueeze(1)?;
    let student = Tensor::cat(&[&cls, &head.norm(&tokens)?], 1)?;
    let teacher = Tensor::cat(&[&cls, &head.patches(&tokens, &chosen)?], 1)?;
    report.close("student", &student, f.get("out.student")?, TOLERANCE)?;
    report.close("teacher", &teacher, f.get("out.teacher")?, TOLERANCE)?;
    let loss = (student * f.get("in.co")?)?.sum_all()?;
    report.close("loss", &loss, f.get("out.loss")?, TOLERANCE)?;
    let grads = backward(&loss)?;
    gradient(f, report, &grads, &image, "img")?;
    parameter_gradients(f, report, &grads, &params)
}

/// Tables of several grids, both borders, and the choice on a square grid.
pub fn neighbours(f: &Fixture, report: &mut Report) -> Result<()> {
    for name in f.under("out.table_") {
        let (grid, reach) = name.split_once("_r").context("tables are named table_RxC_rREACH")?;
        let (rows, cols) = grid.split_once('x').context("tables are named table_RxC_rREACH")?;
        let window = 2 * reach.parse::<usize>()? + 1;
        let got = Neighbours::new(rows.parse()?, cols.parse()?, window, Border::Torus)?;
        report.same("tables", &table(&got), &integers(f.get(&format!("out.table_{name}"))?)?);
    }
    let side = f.int("grid")?;
    for (name, border) in [("wrap", Border::Torus), ("clip", Border::Clipped)] {
        let near = Neighbours::new(side, side, 3, border)?;
        report.same("tables", &table(&near), &integers(f.get(&format!("out.nbr_{name}"))?)?);
        let chosen = positives(f.get("in.x")?, &near, f.int(&format!("k_{name}"))?)?;
        report.same("positives", &integers(&chosen.ids)?, &integers(f.get(&format!("out.ids_{name}"))?)?);
        report.close("cosines", &chosen.similarity, f.get(&format!("out.cos_{name}"))?, TOLERANCE)?;
    }
    Ok(())
}

/// DINO's loss, its gradient, both ways to move the centre.
pub fn dino(f: &Fixture, report: &mut Report) -> Result<()> {
    let center = f.get("in.center")?;
    let new = |views| -> Result<Dino> {
        let mut dino = Dino::new(center.elem_count(), f.number("center_momentum")?, DTYPE, f.device())?;
        dino.student_temp = f.number("tau_s")?;
        dino.globals = f.int("globals")?;
        dino.center_views = views;
        dino.center_mut().set(center)?;
        Ok(dino)
    };
    let student = Var::from_tensor(f.get("in.student")?)?;
    let teacher = f.get("in.teacher")?;
    let teacher = TeacherViews::of(teacher, f.int("globals")?)?;
    for (views, name) in [(CenterViews::All, "all_crops"), (CenterViews::Globals, "globals_only")] {
        let mut dino = new(views)?;
        let term = dino.loss(student.as_tensor(), &teacher, f.number("tau_t")?)?;
        report.close("loss", &term.loss, f.get("out.loss")?, TOLERANCE)?;
        gradient(f, report, &backward(&term.loss)?, &student, "student")?;
        dino.commit(&term.teacher_mean)?;
        report.close("centres", dino.center().value(), f.get(&format!("out.center_{name}"))?, TOLERANCE)?;
    }
    Ok(())
}

/// Image loss + lambda x patch loss with all gradients, and the patch centre.
pub fn total(f: &Fixture, report: &mut Report) -> Result<()> {
    let (momentum, student_temp, temp) = (f.number("center_momentum")?, f.number("tau_s")?, f.number("tau_t")?);
    let mut image = Dino::new(f.get("in.img_center")?.elem_count(), momentum, DTYPE, f.device())?;
    let mut patch = PatchLoss::new(f.get("in.center")?.elem_count(), momentum, DTYPE, f.device())?;
    (image.student_temp, patch.student_temp) = (student_temp, student_temp);
    image.center_mut().set(f.get("in.img_center")?)?;
    patch.center_mut().set(f.get("in.center")?)?;

    let crops: Vec<usize> = (0..).take_while(|i| f.tensors.contains_key(&format!("in.s{i}"))).collect();
    let leaves =
        crops.iter().map(|i| Ok(Var::from_tensor(f.get(&format!("in.s{i}"))?)?)).collect::<Result<Vec<_>>>()?;
    let rows = |tensors: Vec<Tensor>| -> Result<Tensor> {
        let flat = tensors.iter().map(|t| t.flatten(0, 1)).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&flat, 0)?)
    };
    let student = rows(leaves.iter().map(|v| v.as_tensor().clone()).collect())?;
    let teacher = rows(crops.iter().map(|i| f.get(&format!("in.t{i}")).cloned()).collect::<Result<_>>()?)?;
    let groups: Vec<CropGroup> =
        leaves.iter().map(|v| Ok(CropGroup { crops: 1, rows: v.dim(0)? * v.dim(1)? })).collect::<Result<_>>()?;
    let image_student = Var::from_tensor(f.get("in.img_student")?)?;
    let image_teacher = TeacherViews::of(f.get("in.img_teacher")?, image.globals)?;
    let image_loss = image.loss(image_student.as_tensor(), &image_teacher, temp)?.loss;
    let patch_term = patch.loss_of_logits(&student, &teacher, &groups, temp)?;
    let patch_loss = patch_term.loss;
    let loss = (&image_loss + (&patch_loss * f.number("lam")?)?)?;
    for (name, got) in [("loss", &loss), ("image", &image_loss), ("patch", &patch_loss)] {
        report.close("losses", got, f.get(&format!("out.{name}"))?, TOLERANCE)?;
    }
    let grads = backward(&loss)?;
    for (i, leaf) in crops.iter().zip(&leaves) {
        gradient(f, report, &grads, leaf, &format!("s{i}"))?;
    }
    gradient(f, report, &grads, &image_student, "img_student")?;
    patch.commit(&patch_term.teacher_mean)?;
    report.close("patch centre", patch.center().value(), f.get("out.center_new")?, TOLERANCE)
}

/// Trainable parameters of a model with the fixture's values.
fn assigned(
    f: &Fixture,
    weights: &std::collections::BTreeMap<String, Tensor>,
    build: impl Fn(VarBuilder) -> candle_core::Result<()>,
) -> Result<Params> {
    let params = Params::trainable(0);
    build(params.builder(DTYPE, f.device()))?;
    params.assign(weights.iter().map(|(k, v)| (k.as_str(), v)))?;
    Ok(params)
}

fn gradient(f: &Fixture, report: &mut Report, grads: &Gradients, var: &Var, name: &str) -> Result<()> {
    let got = grads.get(var).ok_or_else(|| anyhow!("{name}: no gradient"))?;
    report.close("gradients", &got, f.get(&format!("grad.{name}"))?, TOLERANCE)
}

fn parameter_gradients(f: &Fixture, report: &mut Report, grads: &Gradients, params: &Params) -> Result<()> {
    for name in f.under("grad.") {
        if let Some(var) = params.get(name) {
            gradient(f, report, grads, &var, name)?;
        }
    }
    Ok(())
}
