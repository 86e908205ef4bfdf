//! The image objectives and SelfPatch's total, with all gradients.

use anyhow::Result;
use candle_core::{DType, Tensor, Var};
use selfpatch_fixture::{Fixture, Report, Tolerance, gradient};
use selfpatch_losses::{CenterViews, CropGroup, Dino, PatchLoss, TeacherViews};
use selfpatch_nn::backward;

const TOLERANCE: Tolerance = Tolerance::OBJECTIVES;
const DTYPE: DType = DType::F32;

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
        let term = dino.loss_of_logits(student.as_tensor(), &teacher, f.number("tau_t")?)?;
        report.close("loss", &term.loss, f.get("out.loss")?, TOLERANCE)?;
        gradient(f, report, &backward(&term.loss)?, &student, "student")?;
        dino.center_mut().update(&term.teacher_mean)?;
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
    let image_loss = image.loss_of_logits(image_student.as_tensor(), &image_teacher, temp)?.loss;
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
