//! `aggregation`: the class-attention module, alone and behind a backbone.

use anyhow::Result;
use candle_core::{DType, Tensor, Var};
use selfpatch_aggregation::{Aggregator, AggregatorConfig};
use selfpatch_fixture::{Check, Fixture, Report, Tolerance, assigned, gradient, integers, parameter_gradients, weight};
use selfpatch_matching::{Border, Neighbours, positives};
use selfpatch_nn::backward;
use selfpatch_vit::{Vit, VitConfig};
use std::collections::BTreeMap;

/// Every fixture of this crate.
pub const CHECKS: &[Check] =
    &[Check::single("aggregation", selfpatch), Check::manifest("vit_tokens_selfpatch", behind_a_backbone)];

/// Shape of a module by its weights.
fn config(weights: &BTreeMap<String, Tensor>, heads: usize, eps: f64) -> Result<AggregatorConfig> {
    let (hidden, dim) = weight(weights, "cls_blocks.0.mlp.fc1.weight")?.dims2()?;
    let depth = (0..).take_while(|i| weights.contains_key(&format!("cls_blocks.{i}.norm1.weight"))).count();
    Ok(AggregatorConfig { dim, num_heads: heads, depth, mlp_ratio: hidden / dim, norm_eps: eps })
}

/// `[class token; patches]` without and with aggregation, and the first class-attention map.
fn selfpatch(f: &Fixture, report: &mut Report) -> Result<()> {
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

/// The token-only backbone with the class-attention module, student and teacher side.
fn behind_a_backbone(f: &Fixture, report: &mut Report) -> Result<()> {
    let all = f.weights("par.");
    let head_weights = f.weights("par.head.");
    let backbone: BTreeMap<_, _> =
        all.iter().filter(|(k, _)| !k.starts_with("head.")).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut vit_config = VitConfig::of_weights(&backbone, f.int("heads")?)?;
    vit_config.norm_eps = f.number("ln_eps")?;
    let head_config = config(&head_weights, f.int("heads")?, vit_config.norm_eps)?;
    let params = assigned(f, &all, |vb| {
        Vit::new(&vit_config, vb.clone())?;
        Aggregator::new(&head_config, vb.pp("head")).map(drop)
    })?;
    let vb = params.builder(DType::F32, f.device());
    let (vit, head) = (Vit::new(&vit_config, vb.clone())?, Aggregator::new(&head_config, vb.pp("head"))?);

    let image = Var::from_tensor(f.get("in.img")?)?;
    let tokens = vit.forward(image.as_tensor())?;
    report.close("backbone", &tokens, f.get("out.backbone")?, Tolerance::OBJECTIVES)?;
    let (_, _, height, width) = image.dims4()?;
    let (rows, cols) = vit_config.grid(height, width)?;
    // Tokens in half precision are too coarse to choose the same positives, so the stored ones choose.
    let choosing = if f.computing.is_half() { f.get("out.backbone")? } else { &tokens };
    let chosen = positives(choosing, &Neighbours::new(rows, cols, 3, Border::Torus)?, f.int("k")?)?;
    report.same("positives", &integers(&chosen.ids)?, &integers(f.get("out.positives")?)?);
    let cls = head.image(&tokens)?.unsqueeze(1)?;
    let student = Tensor::cat(&[&cls, &head.norm(&tokens)?], 1)?;
    let teacher = Tensor::cat(&[&cls, &head.patches(&tokens, &chosen)?], 1)?;
    report.close("student", &student, f.get("out.student")?, Tolerance::OBJECTIVES)?;
    report.close("teacher", &teacher, f.get("out.teacher")?, Tolerance::OBJECTIVES)?;
    let loss = (student * f.get("in.co")?)?.sum_all()?;
    report.close("loss", &loss, f.get("out.loss")?, Tolerance::OBJECTIVES)?;
    let grads = backward(&loss)?;
    gradient(f, report, &grads, &image, "img")?;
    parameter_gradients(f, report, &grads, &params)
}
