//! The class-attention module.

use super::fixture::Fixture;
use super::report::{Report, Tolerance};
use anyhow::Result;
use candle_core::Tensor;
use selfpatch_aggregation::{Aggregator, AggregatorConfig};
use selfpatch_matching::{Border, Neighbours, positives};
use std::collections::BTreeMap;

/// Shape of a module by its weights.
pub fn config(weights: &BTreeMap<String, Tensor>, heads: usize, eps: f64) -> Result<AggregatorConfig> {
    let (hidden, dim) = super::fixture::weight(weights, "cls_blocks.0.mlp.fc1.weight")?.dims2()?;
    let depth = (0..).take_while(|i| weights.contains_key(&format!("cls_blocks.{i}.norm1.weight"))).count();
    Ok(AggregatorConfig { dim, num_heads: heads, depth, mlp_ratio: hidden / dim, norm_eps: eps })
}

/// `[class token; patches]` without and with aggregation, and the first class-attention map.
pub fn selfpatch(f: &Fixture, report: &mut Report) -> Result<()> {
    let weights = f.weights("w/");
    let eps = f.config["ln_eps"].as_f64().unwrap_or(1e-6);
    let config = config(&weights, f.int("num_heads")?, eps)?;
    for (dtype, p) in f.precisions() {
        let head = Aggregator::new(&config, f.builder(&weights, dtype))?;
        let tolerance = Tolerance::reference(dtype);
        for n in f.under("in/tokens") {
            let x = f.cast(&format!("in/tokens{n}"), dtype)?;
            let side = x.dim(1)?.isqrt();
            let near = Neighbours::new(side, side, 3, Border::Torus)?;
            let cls = head.image(&x)?.unsqueeze(1)?;
            let expected = |what: &str| f.tensors.get(&format!("{p}/n{n}/{what}"));
            if let Some(want) = expected("loc_false") {
                let got = Tensor::cat(&[&cls, &head.norm(&x)?], 1)?;
                report.close(&format!("student: class token, patches {p}"), &got, want, tolerance)?;
            }
            if let Some(want) = expected("loc_true") {
                let pooled = head.patches(&x, &positives(&x, &near, f.int("k_num")?)?)?;
                let got = Tensor::cat(&[&cls, &pooled], 1)?;
                report.close(&format!("teacher: class token, targets {p}"), &got, want, tolerance)?;
            }
            if let Some(want) = expected("cls_attn0") {
                report.close(&format!("class attention {p}"), &head.attention(&x)?[0], want, tolerance)?;
            }
        }
    }
    Ok(())
}
