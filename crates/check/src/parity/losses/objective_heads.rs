//! Projectors and predictors of all image objectives in training mode, batch norms included.

use super::heads;
use anyhow::{Context, Result, anyhow};
use candle_core::{DType, Tensor, Var};
use selfpatch_fixture::{Fixture, Report, Tolerance, assigned, parameter_gradients};
use selfpatch_losses::ProjectionHead;
use selfpatch_nn::candle_nn::VarBuilder;
use selfpatch_nn::{Affine, BatchNorm, BatchNormConfig, Gradients, Linear, Mode, Params, backward};
use serde_json::Value;

const TOLERANCE: Tolerance = Tolerance::OBJECTIVES;

/// A bias before a batch norm has the gradient 0: what is left is the rounding of terms of the order of 1.
const ZERO: Tolerance = Tolerance::Absolute(2e-6);

/// Outputs, gradients of a weighted sum of them, and the running statistics after one pass from 0 and 1.
pub fn every_head(f: &Fixture, report: &mut Report) -> Result<()> {
    let mut totals = vec![dino(f, report)?];
    for (name, layers) in f.config["specs"].as_object().context("the fixture's description has no specs")? {
        let layers = layers.as_array().with_context(|| format!("{name}: its spec is no list of layers"))?;
        totals.push(sequential(f, report, name, layers)?);
    }
    let total = totals.iter().skip(1).try_fold(totals[0].clone(), |sum, one| sum + one)?;
    report.close("sum of all", &total, f.get("out.loss")?, TOLERANCE)
}

/// A linear layer and what follows it.
struct Layer {
    linear: Linear,
    norm: Option<BatchNorm>,
    relu: bool,
}

/// Layers one after the other.
fn sequential(f: &Fixture, report: &mut Report, head: &str, layers: &[Value]) -> Result<Tensor> {
    let params = Params::trainable(0);
    let vb = params.builder(DType::F32, f.device()).pp(head);
    let mut built = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let (out, inp) = f.get(&format!("par.{head}.{i}.w"))?.dims2()?;
        let linear = Linear::with_bias(inp, out, layer["bias"] == true, vb.pp(i))?;
        let norm = norm(f, layer, out, vb.pp(format!("{i}.bn")))?;
        built.push(Layer { linear, norm, relu: layer["relu"] == true });
    }
    let (buffers, parameters): (Vec<_>, Vec<_>) =
        params.iter().map(|(name, var)| (stored(&name), var)).partition(|(name, _)| name.contains(".run_"));
    for (name, var) in &parameters {
        var.set(f.get(&format!("par.{name}"))?)?;
    }
    let Passed { total, grads } = passed(f, report, head, &|x| {
        built.iter().try_fold(x.clone(), |x, layer| {
            let mut y = layer.linear.forward(&x)?;
            if let Some(norm) = &layer.norm {
                y = norm.forward(&y, Mode::Train)?;
            }
            Ok(if layer.relu { y.relu()? } else { y })
        })
    })?;
    for (name, var) in &buffers {
        report.close("running statistics", var.as_tensor(), f.get(&format!("out.{name}"))?, TOLERANCE)?;
    }
    for (name, var) in &parameters {
        let got = grads.get(var).ok_or_else(|| anyhow!("{name}: no gradient"))?;
        let normed = name.strip_suffix(".b").map(|layer| format!("{layer}.run_mean"));
        let zero = buffers.iter().any(|(buffer, _)| Some(buffer) == normed.as_ref());
        let (row, tolerance) = if zero { ("gradients that are 0", ZERO) } else { ("gradients", TOLERANCE) };
        report.close(row, &got, f.get(&format!("grad.{name}"))?, tolerance)?;
    }
    Ok(total)
}

/// The batch norm that a layer's spec asks for.
fn norm(f: &Fixture, layer: &Value, dim: usize, vb: VarBuilder) -> Result<Option<BatchNorm>> {
    let affine = match layer["bn"].as_str() {
        None => return Ok(None),
        Some("affine") => Affine::Full,
        Some("scale") => Affine::Gain,
        Some("plain") => Affine::None,
        Some(other) => return Err(anyhow!("a spec has a batch norm of the unknown kind {other:?}")),
    };
    let config = BatchNormConfig { eps: f.number("bn_eps")?, affine, ..BatchNormConfig::default() };
    Ok(Some(BatchNorm::new(dim, config, vb)?))
}

/// The fixture's name of a parameter or buffer.
fn stored(name: &str) -> String {
    let ends = [
        (".bn.running_mean", ".run_mean"),
        (".bn.running_var", ".run_var"),
        (".bn.weight", ".bn_w"),
        (".bn.bias", ".bn_b"),
        (".weight", ".w"),
        (".bias", ".b"),
    ];
    let found = ends.iter().find_map(|(ours, theirs)| Some(format!("{}{theirs}", name.strip_suffix(ours)?)));
    found.unwrap_or_else(|| name.to_string())
}

/// DINO's head, which has no batch norm.
fn dino(f: &Fixture, report: &mut Report) -> Result<Tensor> {
    let weights = f.weights("par.dino.");
    let config = heads::config(&weights, false)?;
    let named = weights.iter().map(|(name, value)| (format!("dino.{name}"), value.clone())).collect();
    let params = assigned(f, &named, |vb| ProjectionHead::new(&config, vb.pp("dino")).map(drop))?;
    let head = ProjectionHead::new(&config, params.builder(DType::F32, f.device()).pp("dino"))?;
    let Passed { total, grads } = passed(f, report, "dino", &|x| Ok(head.forward(x)?))?;
    parameter_gradients(f, report, &grads, &params)?;
    Ok(total)
}

/// One pass through a head: the weighted sum of its outputs, and the gradients of that sum.
struct Passed {
    total: Tensor,
    grads: Gradients,
}

/// Runs a head forwards and backwards; compares its output and the gradient of its input.
fn passed(f: &Fixture, report: &mut Report, head: &str, run: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Passed> {
    let x = Var::from_tensor(f.get("in.x")?)?;
    let y = run(x.as_tensor())?;
    report.close("output", &y, f.get(&format!("out.y.{head}"))?, TOLERANCE)?;
    let total = (y * f.get(&format!("in.co.{head}"))?)?.sum_all()?;
    let grads = backward(&total)?;
    let got = grads.get(&x).ok_or_else(|| anyhow!("{head}: its input has no gradient"))?;
    report.close("gradients", &got, f.get(&format!("out.gx.{head}"))?, TOLERANCE)?;
    Ok(Passed { total: total.detach(), grads })
}
