//! `train`: whole training steps (losses, logits, gradients, clipping, weights of both networks, centres), and views as
//! tensors.

use anyhow::{Context, Result, anyhow};
use candle_core::{DType, Device, Tensor, Var};
use selfpatch_aggregation::AggregatorConfig;
use selfpatch_datasets::Samples;
use selfpatch_fixture::{Check, Fixture, Report, Tolerance, integer, number, pixels};
use selfpatch_losses::{At, HeadConfig, Temperature};
use selfpatch_matching::{Border, Neighbours};
use selfpatch_nn::Backbone;
use selfpatch_nn::{Precision, backward};
use selfpatch_optim::{Algorithm, Clip, Cosine, Rules, norm};
use selfpatch_train::{Hyper, MEAN, NetworkConfig, PatchTarget, Rows, STD, Settings, Trainer, normalized};
use selfpatch_vit::{Activations, Pass, VitConfig};
use serde_json::Value;

/// Every fixture of this crate, and of `datasets` the one with views as tensors.
pub const CHECKS: &[Check] =
    &[Check::single("train_a", steps), Check::single("train_b", steps), Check::single("augment", tensors)];

/// Stored views and pictures `[S, S, 3]`, normalised to `[1, 3, S, S]`.
fn tensors(f: &Fixture, report: &mut Report) -> Result<()> {
    for (name, want) in &f.tensors {
        let of_view = name.strip_suffix("_normalized").map(str::to_string);
        let of_picture = || Some(format!("{}/base", name.strip_suffix("/normalized")?));
        let Some(bytes) = of_view.or_else(of_picture) else { continue };
        let bytes = f.get(&bytes)?;
        let planes = bytes.permute((2, 0, 1))?.flatten_all()?.to_vec1()?;
        let got = normalized(&Samples::Bytes(planes), (3, bytes.dim(0)?), (&MEAN, &STD), &Device::Cpu)?;
        report.close("normalised", &got, want, Tolerance::reference(DType::F32))?;
    }
    Ok(())
}

/// Replays the stored steps from the stored weights and images.
fn steps(f: &Fixture, report: &mut Report) -> Result<()> {
    for (dtype, p) in f.precisions() {
        if f.tensors.contains_key(&format!("{p}/losses")) {
            replay(f, report, dtype, p)?;
        }
    }
    Ok(())
}

fn replay(f: &Fixture, report: &mut Report, dtype: DType, p: &str) -> Result<()> {
    let (model, s) = (&f.config["model"], &f.config["scenario"]);
    let w0 = f.weights("w0/");
    let heads = integer(model, "num_heads")?;
    let mut vit = VitConfig::of_weights(&f.weights("w0/backbone."), heads)?;
    vit.norm_eps = f.config["ln_eps"].as_f64().unwrap_or(1e-6);
    let frozen_gain = s["norm_last"].as_bool().context("the fixture's scenario has no norm_last")?;
    let head = |prototypes: &str| -> Result<HeadConfig> {
        Ok(HeadConfig {
            hidden_dim: integer(model, "hidden")?,
            bottleneck_dim: integer(model, "bottleneck")?,
            norm_last_layer: frozen_gain,
            ..HeadConfig::dino(integer(model, "embed_dim")?, integer(model, prototypes)?)
        })
    };
    let network = NetworkConfig {
        aggregator: AggregatorConfig { norm_eps: vit.norm_eps, ..AggregatorConfig::new(vit.embed_dim, heads) },
        class_head: head("out")?,
        patch_head: Some(head("out_patch")?),
        vit: vit.clone(),
    };
    let inputs = |i: usize| -> Result<Vec<Tensor>> {
        ["global", "local"]
            .iter()
            .filter_map(|w| f.tensors.get(&format!("in/step{i}/{w}")))
            .map(|bytes| Ok(pixels(bytes, dtype)?.flatten(0, 1)?))
            .collect()
    };
    let targets = inputs(1)?
        .iter()
        .map(|x| {
            let (_, _, height, width) = x.dims4()?;
            let (rows, cols) = vit.grid(height, width)?;
            Ok(PatchTarget::ClassAttention(Neighbours::new(rows, cols, 3, Border::Torus)?, integer(s, "k")?))
        })
        .collect::<Result<_>>()?;
    let schedule = Schedule::of(s)?;
    let settings = Settings {
        network,
        lambda: 0.1,
        targets,
        globals: 2,
        student_temp: number(&f.config, "student_temp")?,
        teacher_temp: schedule.temperature,
        freeze_epochs: schedule.freeze,
        center_momentum: number(&f.config, "center_momentum")?,
        rules: Rules { clip: Clip::Each(number(s, "clip")?), ..Rules::default() },
        drop_path_rate: f.config["drop_path_rate"].as_f64().unwrap_or(0.),
        algorithm: Algorithm::AdamW,
        accumulate: 1,
        activations: Activations::Keep,
        precision: Precision::F32,
        seed: 0,
    };
    let mut trainer = Trainer::new(settings, dtype, f.device())?;
    for params in [&trainer.student_params, &trainer.teacher_params] {
        params.assign(w0.iter().map(|(k, v)| (k.as_str(), v)))?;
    }
    let images = integer(s, "batch")?;
    let losses = f.get(&format!("{p}/losses"))?;
    let tolerance = Tolerance::reference(dtype);
    for i in 1..=losses.dim(0)? {
        let crops = inputs(i)?;
        let hyper = schedule.at(i - 1);
        let patches = trainer.teacher().backbone.patches(&crops)?;
        let teacher = trainer.teacher_rows(&patches)?;
        // Frozen prototypes get their gradients too: the fixture has them, before they are dropped.
        let student = trainer.student_rows(&patches, &Pass::default(), 9)?;
        let loss = trainer.loss(&student, &teacher, &patches, images, &hyper)?;
        let got = Tensor::new(&loss.values()?, &Device::Cpu)?;
        report.close(&format!("losses {p}"), &got, &losses.get(i - 1)?, tolerance)?;
        let globals = crops[0].dim(0)?;
        for (who, logits) in [("student", &student), ("teacher", &teacher)] {
            compare_logits(f, report, &format!("{p}/step{i}/logits/{who}"), p, logits, globals, tolerance)?;
        }
        let mut grads = backward(&loss.total)?;
        let params: Vec<(String, Var)> = trainer.student_params.iter().collect();
        for name in f.under(&format!("{p}/step{i}/grad_raw/")) {
            let var = trainer.student_params.get(name).with_context(|| format!("{name} is no parameter"))?;
            let got = grads.get(&var).ok_or_else(|| anyhow!("{name}: no gradient"))?;
            let want = f.get(&format!("{p}/step{i}/grad_raw/{name}"))?;
            let double = f.tensors.get(&format!("f64/step{i}/grad_raw/{name}")).unwrap_or(want);
            report.close_to_either(&format!("gradients {p}"), &got, [want, double], tolerance)?;
        }
        trainer.commit(&loss.updates)?;
        // What the optimiser multiplies each gradient with; those of frozen prototypes are not used.
        for name in f.under(&format!("{p}/step{i}/grad_clipped/")) {
            let Some((_, var)) = params.iter().find(|(n, _)| n == name) else { continue };
            let (Some(raw), Some(norm)) = (grads.get(var), norm(&grads, var)?) else { continue };
            if hyper.at.epoch < schedule.freeze && name.contains("last_layer") {
                continue;
            }
            let factor = Clip::Each(number(s, "clip")?).factors(&[norm])[0];
            let got = (raw * factor)?;
            let want = f.get(&format!("{p}/step{i}/grad_clipped/{name}"))?;
            report.close(&format!("clipped gradients {p}"), &got, want, tolerance)?;
        }
        let norms = params.iter().filter_map(|(_, var)| norm(&grads, var).transpose());
        let norms = norms.collect::<Result<Vec<f64>, _>>()?;
        trainer.update(&mut grads, &hyper)?;
        compare_norms(f, report, &format!("{p}/step{i}"), p, &norms, &params, frozen_gain, tolerance)?;
        let centers = [trainer.objective.state().remove(0).1, trainer.patch.center().value().clone()];
        for (name, center) in ["center", "patch_center"].into_iter().zip(&centers) {
            if let Some(want) = f.tensors.get(&format!("{p}/step{i}/{name}")) {
                report.close(&format!("centres {p}"), center, want, tolerance)?;
            }
        }
        compare_weights(f, report, i, p, &trainer, &w0)?;
    }
    for (name, cosine) in [("lr", schedule.lr), ("wd", schedule.wd), ("mo", schedule.momentum)] {
        if let Some(want) = f.tensors.get(&format!("f64/schedule_{name}")) {
            let got: Vec<f64> = (0..want.elem_count()).map(|i| cosine.at(i)).collect();
            let got = Tensor::from_vec(got, want.elem_count(), &Device::Cpu)?;
            report.close("schedules", &got, want, Tolerance::reference(DType::F64))?;
        }
    }
    Ok(())
}

fn compare_logits(
    f: &Fixture,
    report: &mut Report,
    prefix: &str,
    p: &str,
    logits: &Rows,
    globals: usize,
    tolerance: Tolerance,
) -> Result<()> {
    let class = logits.class.logits()?;
    for (group, from, n) in [("global", 0, globals), ("local", globals, class.dim(0)? - globals)] {
        if let Some(want) = f.tensors.get(&format!("{prefix}_{group}_cls")) {
            report.close(&format!("logits {p}"), &class.narrow(0, from, n)?, want, tolerance)?;
        }
        let Some(want) = f.tensors.get(&format!("{prefix}_{group}_patch")) else { continue };
        let patch = logits.patch.as_ref().context("there are no patch logits")?.logits()?;
        let n = want.dim(0)? * want.dim(1)?;
        let from = if from == 0 { 0 } else { patch.dim(0)? - n };
        report.close(&format!("logits {p}"), &patch.narrow(0, from, n)?, want, tolerance)?;
    }
    Ok(())
}

/// The fixture stores norms of all parameters that require a gradient, in their order.
#[allow(clippy::too_many_arguments)] // one comparison, all its inputs
fn compare_norms(
    f: &Fixture,
    report: &mut Report,
    prefix: &str,
    p: &str,
    norms: &[f64],
    params: &[(String, Var)],
    frozen_gain: bool,
    tolerance: Tolerance,
) -> Result<()> {
    let Some(want) = f.tensors.get(&format!("{prefix}/param_norms")) else { return Ok(()) };
    // Our parameters come in the order of creation, the reference's in its state dict's.
    let names: Vec<&str> = params
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !(frozen_gain && name.ends_with("weight_g")))
        .collect();
    if names.len() != norms.len() {
        anyhow::bail!("{} gradients for {} trainable parameters", norms.len(), names.len());
    }
    let order = f.values["param_order"].as_array().context("the fixture has no param_order")?;
    let got: Vec<f64> = order
        .iter()
        .filter_map(Value::as_str)
        .filter_map(|name| names.iter().position(|n| *n == name).map(|i| norms[i]))
        .collect();
    let n = got.len();
    report.close(&format!("gradient norms {p}"), &Tensor::from_vec(got, n, &Device::Cpu)?, want, tolerance)
}

/// Adam turns rounding noise of near-zero gradients into steps of up to lr: in f32 single weights are
/// held to 1e-5, and the whole update of each tensor to 2e-3 of its size, key biases left out, whose
/// gradient is zero analytically (the fixtures' README).
fn compare_weights(
    f: &Fixture,
    report: &mut Report,
    step: usize,
    p: &str,
    trainer: &Trainer,
    w0: &std::collections::BTreeMap<String, Tensor>,
) -> Result<()> {
    let (absolute, relative) = if p == "f64" { (1e-11, 1e-9) } else { (1e-5, 2e-3) };
    for (who, params) in [("student", &trainer.student_params), ("teacher", &trainer.teacher_params)] {
        for name in f.under(&format!("{p}/step{step}/{who}/")) {
            let want = f.get(&format!("{p}/step{step}/{who}/{name}"))?;
            let got = params.get(name).with_context(|| format!("{name} is no parameter"))?;
            let check = format!("{who} weights {p}");
            let tolerance = if p == "f64" { Tolerance::Scaled(absolute) } else { Tolerance::Absolute(absolute) };
            report.close(&check, got.as_tensor(), want, tolerance)?;
            if who == "teacher" || name.ends_with("attn.k.bias") {
                continue;
            }
            let flat = |t: &Tensor| t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
            let start = flat(w0.get(name).with_context(|| format!("{name} has no initial value"))?)?;
            let (got, want) = (flat(got.as_tensor())?, flat(want)?);
            let n = got.len();
            let counts = |i: usize| !(name.ends_with("qkv.bias") && (n / 3..2 * n / 3).contains(&i));
            let length =
                |a: &[f64], b: &[f64]| (0..n).filter(|&i| counts(i)).map(|i| (a[i] - b[i]).powi(2)).sum::<f64>().sqrt();
            let moved = length(&want, &start);
            if moved > 1e-9 {
                report.error(&format!("relative error of updates {p}"), length(&got, &want) / moved, relative);
            }
        }
    }
    Ok(())
}

/// The scenario's schedules.
struct Schedule {
    lr: Cosine,
    wd: Cosine,
    momentum: Cosine,
    temperature: Temperature,
    per_epoch: usize,
    freeze: usize,
}

impl Schedule {
    fn of(s: &Value) -> Result<Self> {
        let per_epoch = integer(s, "niter")?;
        let steps = integer(s, "epochs")? * per_epoch;
        let lr = number(s, "lr")? * number(s, "batch")? / 256.;
        Ok(Self {
            lr: Cosine::new(lr, number(s, "min_lr")?, steps).with_warmup(integer(s, "warmup")? * per_epoch),
            wd: Cosine::new(number(s, "wd")?, number(s, "wd_end")?, steps),
            momentum: Cosine::new(number(s, "mom")?, 1., steps),
            temperature: Temperature {
                warmup: number(s, "wtt")?,
                last: number(s, "tt")?,
                warmup_epochs: integer(s, "wte")?,
            },
            per_epoch,
            freeze: integer(s, "freeze")?,
        })
    }

    fn at(&self, step: usize) -> Hyper {
        let epoch = step / self.per_epoch;
        Hyper {
            lr: self.lr.at(step),
            weight_decay: self.wd.at(step),
            momentum: self.momentum.at(step),
            patch_teacher_temp: self.temperature.at(epoch),
            at: At { step, epoch },
        }
    }
}
