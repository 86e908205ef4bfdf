//! `optim`: cosine schedules, and the teacher temperatures beside them.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use selfpatch_fixture::{Check, Fixture, Report, Tolerance, integer, number};
use selfpatch_losses::teacher_temperature;
use selfpatch_optim::Cosine;

/// Every fixture of this crate.
pub const CHECKS: &[Check] = &[Check::single("schedules", selfpatch)];

/// Every stored schedule, step by step.
fn selfpatch(f: &Fixture, report: &mut Report) -> Result<()> {
    for (name, v) in f.values.as_object().into_iter().flatten() {
        let Some(want) = f.tensors.get(name) else { continue };
        let n = want.elem_count();
        let got: Vec<f64> = if name.starts_with("cosine") {
            let (epochs, per_epoch) = (integer(v, "epochs")?, integer(v, "niter_per_ep")?);
            let schedule = Cosine {
                base: number(v, "base_value")?,
                last: number(v, "final_value")?,
                steps: epochs * per_epoch,
                warmup_steps: v["warmup_epochs"].as_u64().unwrap_or(0) as usize * per_epoch,
                warmup_from: v["start_warmup_value"].as_f64().unwrap_or(0.),
            };
            (0..n).map(|i| schedule.at(i)).collect()
        } else {
            let (from, to, warmup) = (number(v, "w")?, number(v, "t")?, integer(v, "we")?);
            (0..n).map(|epoch| teacher_temperature(from, to, warmup, epoch)).collect()
        };
        let check = if name.starts_with("cosine") { "cosine schedules" } else { "teacher temperatures" };
        report.close(check, &Tensor::from_vec(got, n, &Device::Cpu)?, want, Tolerance::reference(DType::F64))?;
    }
    Ok(())
}
