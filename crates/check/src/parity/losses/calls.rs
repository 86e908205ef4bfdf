//! The image and patch objectives over several calls, centres carried over.

use anyhow::{Result, anyhow};
use candle_core::{DType, Device, Tensor, Var};
use selfpatch_fixture::{Fixture, Report, Tolerance, integer};
use selfpatch_losses::{CropGroup, Dino, PatchLoss, TeacherViews, teacher_temperature};

/// Losses, gradients to the student's logits, centres and the temperature schedule.
pub fn selfpatch(f: &Fixture, report: &mut Report) -> Result<()> {
    let epochs = f.int("nepochs")?;
    let schedule = |epoch: usize| -> Result<f64> {
        Ok(teacher_temperature(
            f.number("warmup_teacher_temp")?,
            f.number("teacher_temp")?,
            f.int("warmup_teacher_temp_epochs")?,
            epoch,
        ))
    };
    if let Some(want) = f.tensors.get("f64/teacher_temp_schedule") {
        let got = (0..epochs).map(schedule).collect::<Result<Vec<f64>>>()?;
        let got = Tensor::from_vec(got, epochs, &Device::Cpu)?;
        report.close("temperature schedule", &got, want, Tolerance::reference(DType::F64))?;
    }
    for (dtype, p) in f.precisions() {
        calls(f, report, dtype, p, &schedule)?;
    }
    Ok(())
}

fn calls(
    f: &Fixture,
    report: &mut Report,
    dtype: DType,
    p: &str,
    schedule: &dyn Fn(usize) -> Result<f64>,
) -> Result<()> {
    let tolerance = Tolerance::reference(dtype);
    let momentum = f.number("center_momentum")?;
    let mut image = Dino::new(f.get("in/center")?.elem_count(), momentum, dtype, f.device())?;
    let mut patch = PatchLoss::new(f.get("in/patch_center")?.elem_count(), momentum, dtype, f.device())?;
    image.student_temp = f.number("student_temp")?;
    patch.student_temp = image.student_temp;
    image.center_mut().set(f.get("in/center")?)?;
    patch.center_mut().set(f.get("in/patch_center")?)?;
    let lambda = f.config["lambda"].as_f64().unwrap_or(0.1); // literal in the reference

    for call in (0..).take_while(|c| f.tensors.contains_key(&format!("in/call{c}/student_global_cls"))) {
        let input = |who: &str, what: &str| f.cast(&format!("in/call{call}/{who}_{what}"), dtype);
        let b = f.int("batch")?;
        // Leaves first, so that the gradient of each stored tensor can be asked for.
        let names = ["global_cls", "local_cls", "global_patch", "local_patch"];
        let leaves = names.map(|n| input("student", n).and_then(|t| Ok(Var::from_tensor(&t)?)));
        let [gc, lc, gp, lp] = leaves;
        let (gc, lc, gp, lp) = (gc?, lc?, gp?, lp?);
        let student_class = class(gc.as_tensor(), lc.as_tensor(), b)?;
        let teacher_class = class(&input("teacher", "global_cls")?, &input("teacher", "local_cls")?, b)?;
        let student_patch = rows(gp.as_tensor(), lp.as_tensor())?;
        let teacher_patch = rows(&input("teacher", "global_patch")?, &input("teacher", "local_patch")?)?;
        let group = |t: &Tensor| -> Result<CropGroup> {
            let (n, tokens, _) = t.dims3()?;
            Ok(CropGroup { crops: n / b, rows: b * tokens })
        };
        let groups = [group(gp.as_tensor())?, group(lp.as_tensor())?];

        let temp = schedule(integer(&f.values[format!("call{call}")], "epoch")?)?;
        let class_loss =
            image.loss_of_logits(&student_class, &TeacherViews::of(&teacher_class, image.globals)?, temp)?;
        let patch_loss = patch.loss_of_logits(&student_patch, &teacher_patch, &groups, temp)?;
        image.center_mut().update(&class_loss.teacher_mean)?;
        patch.commit(&patch_loss.teacher_mean)?;
        let (class_loss, patch_loss) = (class_loss.loss, patch_loss.loss);
        let total = (&class_loss + (&patch_loss * lambda)?)?;
        let grads = total.backward()?;

        let want = |what: &str| f.tensors.get(&format!("{p}/call{call}/{what}"));
        for (what, got) in [("total", &total), ("cls", &class_loss), ("patch", &patch_loss)] {
            if let Some(want) = want(what) {
                report.close(&format!("losses {p}"), got, want, tolerance)?;
            }
        }
        for (what, got) in [("center", image.center()), ("patch_center", patch.center())] {
            if let Some(want) = want(what) {
                report.close(&format!("centres {p}"), got.value(), want, tolerance)?;
            }
        }
        for (name, leaf) in names.iter().zip([&gc, &lc, &gp, &lp]) {
            if let Some(want) = want(&format!("grad_{name}")) {
                let got = grads.get(leaf).ok_or_else(|| anyhow!("student_{name}: no gradient"))?;
                report.close(&format!("gradients to logits {p}"), got, want, tolerance)?;
            }
        }
    }
    Ok(())
}

/// Joins `[G*B, 1, K]` and `[L*B, 1, K]` to `[V, B, K]`.
fn class(global: &Tensor, local: &Tensor, b: usize) -> Result<Tensor> {
    let all = Tensor::cat(&[global, local], 0)?;
    let (n, _, k) = all.dims3()?;
    Ok(all.reshape((n / b, b, k))?)
}

/// Joins two tensors `[n, N, P]` to `[R, P]`.
fn rows(global: &Tensor, local: &Tensor) -> Result<Tensor> {
    Ok(Tensor::cat(&[global.flatten(0, 1)?, local.flatten(0, 1)?], 0)?)
}
