//! Half precisions beside f32, on the CPU: what they change and what they leave alone.

mod common;

use common::{HYPER, crops, go, go_on, session, tiny};
use selfpatch_nn::Backbone;
use selfpatch_nn::{autocast, backward};
use selfpatch_run::Session;
use selfpatch_train::candle_core::{DType, Device, Tensor, Var};
use selfpatch_train::config::{Config, Precision};
use selfpatch_train::{Error, Scaler, Settings, Trainer};
use selfpatch_vit::Pass;
use std::path::Path;

/// A scale at which gradients of the tiny networks fit into fp16: their embeddings are short at first, and the
/// gradients of what is normalised large.
const SCALE: f64 = 8.;

/// The tiny configuration without stochastic depth.
fn config(precision: Precision) -> Config {
    let mut config = tiny(Path::new("unused"));
    (config.optim.precision, config.model.drop_path_rate) = (precision, 0.);
    config
}

fn trainer(precision: Precision) -> Result<Trainer, Error> {
    Ok(Trainer::new(Settings::of(&config(precision))?, DType::F32, &Device::Cpu)?)
}

fn values(t: &Tensor) -> Vec<f64> {
    t.flatten_all().and_then(|t| t.to_dtype(DType::F64)?.to_vec1()).expect("numbers")
}

/// Losses, and the gradient of each parameter, of the first step.
fn first(precision: Precision) -> Result<Vec<(String, Vec<f64>)>, Error> {
    let trainer = trainer(precision)?;
    let crops = crops(3);
    let scale = if precision == Precision::F16 { SCALE } else { 1. };
    let (losses, grads) = autocast(trainer.precision(), || {
        let patches = trainer.student().backbone.patches(&crops)?;
        let teacher = trainer.teacher_rows(&patches)?;
        let student = trainer.student_rows(&patches, &Pass::default(), 9)?;
        let loss = trainer.loss(&student, &teacher, &patches, 3, &HYPER)?;
        Ok::<_, Error>((loss.values()?, backward(&(&loss.total * scale)?)?))
    })?;
    let gradient = |(name, var): (String, Var)| Some((name, values(&(grads.get(&var)? / scale).ok()?)));
    let mut all: Vec<_> = trainer.student_params.iter().filter_map(gradient).collect();
    for (name, g) in &mut all {
        // Zero analytically: only rounding is left.
        if name.ends_with("attn.k.bias") {
            g.clear();
        } else if name.ends_with("attn.qkv.bias") {
            g.drain(g.len() / 3..2 * g.len() / 3);
        }
    }
    all.push(("losses".into(), losses.to_vec()));
    Ok(all)
}

/// Largest differences, as parts of the largest element of each tensor; docs/pretraining.md states them.
#[test]
fn losses_and_gradients_of_a_step_are_near_those_of_f32() -> Result<(), Error> {
    let want = first(Precision::F32)?;
    for (precision, of_losses, of_gradients) in [(Precision::Bf16, 3e-3, 5e-2), (Precision::F16, 1e-3, 5e-3)] {
        for ((name, got), (_, want)) in first(precision)?.iter().zip(&want) {
            let size = want.iter().fold(1e-30, |m: f64, v| m.max(v.abs()));
            let error = got.iter().zip(want).fold(0f64, |m, (a, b)| m.max((a - b).abs())) / size;
            let tolerance = if name == "losses" { of_losses } else { of_gradients };
            assert!(error < tolerance && got.len() == want.len(), "{precision:?} {name}: {error:.1e} of {size:.1e}");
        }
    }
    Ok(())
}

#[test]
fn training_goes_as_in_f32_and_its_state_stays_in_f32() -> Result<(), Error> {
    let run = |precision: Precision| -> Result<(Vec<f64>, Trainer), Error> {
        let mut trainer = trainer(precision)?;
        trainer.scaler.iter_mut().for_each(|scaler| scaler.scale = SCALE);
        let crops = crops(4);
        let step = |step: usize| Ok(trainer.step(&crops, 4, step, &HYPER)?.losses[0]);
        let losses = (0..30).map(step).collect::<Result<_, Error>>()?;
        Ok((losses, trainer))
    };
    let (want, _) = run(Precision::F32)?;
    for (precision, tolerance) in [(Precision::Bf16, 3e-2), (Precision::F16, 5e-3)] {
        let (got, trainer) = run(precision)?;
        let greatest = want.iter().fold(0f64, |m, v| m.max(*v));
        for (step, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!((got - want).abs() < tolerance * greatest, "{precision:?}, step {step}: {got}, in f32 {want}");
        }
        assert!(got[29] < 0.9 * got[0], "{got:?}");
        let centers = [trainer.objective.state().remove(0).1, trainer.patch.center().value().clone()];
        let all = [trainer.student_params.tensors(), trainer.teacher_params.tensors(), trainer.optimizer.moments()];
        let dtypes = all.iter().flatten().map(|(_, t)| t.dtype()).chain(centers.iter().map(Tensor::dtype));
        assert!(dtypes.into_iter().all(|dtype| dtype == DType::F32));
    }
    Ok(())
}

#[test]
fn an_overflow_leaves_the_student_and_halves_the_scale() -> Result<(), Error> {
    let mut trainer = trainer(Precision::F16)?;
    trainer.scaler.iter_mut().for_each(|scaler| scaler.scale = SCALE);
    let crops = crops(2);
    assert!(!trainer.step(&crops, 2, 0, &HYPER)?.overflow);
    assert_eq!(trainer.scaler, Some(Scaler { scale: SCALE, good_steps: 1 }));
    trainer.scaler = Some(Scaler { scale: 2f64.powi(60), good_steps: 7 });
    let all = |t: &Trainer| {
        let of = |tensors: Vec<(String, Tensor)>| tensors.iter().flat_map(|(_, t)| values(t)).collect::<Vec<_>>();
        let (student, teacher) = (of(t.student_params.tensors()), of(t.teacher_params.tensors()));
        (student, of(t.optimizer.moments()), teacher, values(&t.objective.state()[0].1))
    };
    let (before, steps) = (all(&trainer), trainer.optimizer.steps()?);
    let report = trainer.step(&crops, 2, 1, &HYPER)?;
    let after = all(&trainer);
    assert!(report.overflow && report.losses.iter().all(|l| l.is_finite()));
    assert_eq!(report.loss_scale, Some(2f64.powi(60)));
    assert_eq!(trainer.scaler, Some(Scaler { scale: 2f64.powi(59), good_steps: 0 }));
    assert!(before.0 == after.0 && before.1 == after.1 && steps == trainer.optimizer.steps()?);
    assert!(before.2 != after.2 && before.3 != after.3, "teacher and centre move on");
    // The scale comes down until the gradients fit.
    let more = (2..60).take_while(|&step| trainer.step(&crops, 2, step, &HYPER).is_ok_and(|r| r.overflow)).count();
    assert!((30..58).contains(&more), "{more}");
    Ok(())
}

#[test]
fn gradients_that_overflow_at_every_scale_are_an_error() -> Result<(), Error> {
    let mut trainer = trainer(Precision::F16)?;
    trainer.scaler = Some(Scaler { scale: 1., good_steps: 3 });
    let bad = trainer.student_params.get("backbone.pos_embed").expect("the positions");
    let mut grads = backward(&bad.sum_all()?)?;
    grads.set(&bad, (bad.as_tensor() * f64::INFINITY)?);
    let error = trainer.update(&mut grads, &HYPER).expect_err("an overflow");
    assert!(matches!(&error, Error::Overflow { parameter } if parameter == "backbone.pos_embed"), "{error}");
    assert!(error.is_non_finite() && error.to_string().contains("bf16"));
    assert_eq!(trainer.scaler, Some(Scaler { scale: 1., good_steps: 3 }));
    assert!(trainer.optimizer.steps()?.is_empty());
    Ok(())
}

#[test]
fn a_run_in_fp16_goes_on_bit_for_bit_and_says_its_scale() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let mut whole = tiny(folder.path());
    whole.optim.precision = Precision::F16;
    let straight = go(&whole, false)?;
    let mut parts = whole.clone();
    parts.output_dir = folder.path().join("parts");
    parts.optim.max_steps = Some(5);
    let mut losses = go(&parts, false)?;
    parts.optim.max_steps = None;
    losses.extend(go(&parts, false)?);
    assert_eq!(losses, straight);
    let file = |c: &Config, name: &str| std::fs::read(c.output_dir.join("checkpoints/step-000008").join(name));
    for name in ["student", "teacher", "optimizer", "centers"] {
        let name = format!("{name}.safetensors");
        assert_eq!(file(&whole, &name)?, file(&parts, &name)?, "{name}");
    }
    let scaler = |c: &Config| -> Result<_, Box<dyn std::error::Error>> {
        let state: serde_json::Value = serde_json::from_slice(&file(c, "state.json")?)?;
        Ok(serde_json::from_value::<Scaler>(state["scaler"].clone())?)
    };
    assert_eq!(scaler(&whole)?, scaler(&parts)?);
    assert!(scaler(&whole)?.good_steps > 0);
    let log = selfpatch_run::log::read(&whole.output_dir)?;
    let is_whole = |r: &selfpatch_run::Record| {
        r.get("loss_scale").is_some() && (r.get("overflow") == Some(1.)) == r.get("grad_norm").is_none()
    };
    assert!(log.iter().all(is_whole));

    // Another precision is another run, unless it is named.
    (parts.optim.precision, parts.optim.epochs) = (Precision::F32, 3);
    let error = go(&parts, false).expect_err("changed").to_string();
    assert!(error.contains("optim.precision: \"fp16\" -> \"f32\""), "{error}");
    let named = ["optim.precision".to_string()];
    assert_eq!(go_on(&parts, &Session { overrides: &named, ..session(false) })?.len(), 4);
    Ok(())
}
