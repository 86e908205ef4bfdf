//! Projection heads.

use anyhow::Result;
use candle_core::{Tensor, Var};
use selfpatch_fixture::{Fixture, Report, Tolerance, weight};
use selfpatch_losses::{HeadConfig, ProjectionHead};
use selfpatch_nn::{Params, backward};
use std::collections::{BTreeMap, BTreeSet};

/// Shape of a head by its weights.
pub(super) fn config(weights: &BTreeMap<String, Tensor>, norm_last_layer: bool) -> Result<HeadConfig> {
    let (out_dim, bottleneck_dim) = weight(weights, "last_layer.weight_v")?.dims2()?;
    let layers = weights.keys().filter(|k| k.starts_with("mlp.") && k.ends_with(".weight")).count();
    let first = if weights.contains_key("mlp.weight") { "mlp.weight" } else { "mlp.0.weight" };
    let (hidden_dim, in_dim) = weight(weights, first)?.dims2()?;
    Ok(HeadConfig { in_dim, hidden_dim, bottleneck_dim, out_dim, layers, batch_norm: false, norm_last_layer })
}

/// Logits, and gradients of a weighted sum of the first two samples' logits.
pub fn dino_heads(f: &Fixture, report: &mut Report) -> Result<()> {
    let tags: BTreeSet<&str> = f.tensors.keys().filter_map(|k| k.split_once("/w/")).map(|(tag, _)| tag).collect();
    for (dtype, p) in f.precisions() {
        let tolerance = Tolerance::reference(dtype);
        for tag in &tags {
            let weights = f.weights(&format!("{tag}/w/"));
            let trained_gain = f.tensors.contains_key(&format!("{p}/{tag}/grad_weight_g"));
            let params = Params::trainable(0);
            let vb = params.builder(dtype, f.device());
            let head = ProjectionHead::new(&config(&weights, !trained_gain)?, vb)?;
            params.assign(weights.iter().map(|(k, v)| (k.as_str(), v)))?;
            let x = f.cast("in/x", dtype)?;
            let want = |what: &str| f.get(&format!("{p}/{tag}/{what}"));
            report.close(&format!("logits {p}"), &head.forward(&x)?, want("out")?, tolerance)?;

            let rows = want("grad_in")?.dim(0)?;
            let x = Var::from_tensor(&x.narrow(0, 0, rows)?.contiguous()?)?;
            let coefficients = f.cast(&format!("{tag}/grad_coef"), dtype)?.narrow(0, 0, rows)?;
            let grads = backward(&(head.forward(x.as_tensor())? * coefficients)?.sum_all()?)?;
            let mut compare = |var: &Var, what: &str| -> Result<()> {
                let got = grads.get(var).ok_or_else(|| anyhow::anyhow!("{what}: no gradient"))?;
                report.close(&format!("gradients {p}"), &got, want(what)?, tolerance)
            };
            compare(&x, "grad_in")?;
            for name in ["weight_v", "weight_g"] {
                if let (Some(var), true) = (
                    params.get(&format!("last_layer.{name}")),
                    f.tensors.contains_key(&format!("{p}/{tag}/grad_{name}")),
                ) {
                    compare(&var, &format!("grad_{name}"))?;
                }
            }
        }
    }
    Ok(())
}
