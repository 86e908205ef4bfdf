//! `finetune`: the update rule of the linear probe.

use anyhow::Result;
use candle_core::{DType, Device};
use selfpatch_finetune::linear::{Classifier, rate};
use selfpatch_fixture::{Check, Fixture, Report, Tolerance, integer, number};
use std::collections::BTreeMap;
use std::path::Path;

/// Every fixture of this crate.
pub const CHECKS: &[Check] = &[Check::flat("linear", linear)];

/// SGD with momentum under a cosine that moves once per epoch: rates exactly, losses and weights within 1e-5 (f32).
fn linear(f: &Fixture, report: &mut Report) -> Result<()> {
    let (values, w0) = (&f.values, f.get("w0")?);
    let (epochs, batches) = (integer(values, "epochs")?, integer(values, "batches_per_epoch")?);
    let mut classifier = Classifier::new(w0.dim(1)?, w0.dim(0)?, 0, &Device::Cpu)?;
    let start = [("weight", w0), ("bias", f.get("b0")?)].map(|(name, t)| (name.to_string(), t.clone()));
    classifier.params.load(&BTreeMap::from(start), Path::new("linear"))?;
    let (mut rates, mut losses) = (0f64, 0f64);
    for step in 0..epochs * batches {
        let (epoch, batch) = (step / batches, step % batches);
        let lr = rate(number(values, "lr0")?, epoch, epochs);
        let labels = f.cast(&format!("y.{epoch}.{batch}"), DType::U32)?;
        let (loss, gradients) = classifier.gradients(f.get(&format!("x.{epoch}.{batch}"))?, &labels)?;
        classifier.step(&gradients, lr)?;
        let want = |name: &str| values[name][step].as_f64().unwrap_or(f64::NAN);
        rates = rates.max((lr - want("lrs")).abs());
        losses = losses.max((f64::from(loss.to_scalar::<f32>()?) - want("losses")).abs());
    }
    report.error("learning rates", rates, 1e-18);
    report.error("losses", losses, 1e-5);
    for (name, want) in [("weight", "w_end"), ("bias", "b_end")] {
        let Some(got) = classifier.params.get(name) else { continue };
        report.close(name, got.as_tensor(), f.get(want)?, Tolerance::Scaled(1e-5))?;
    }
    Ok(())
}
