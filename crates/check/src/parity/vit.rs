//! `vit`: the token-only backbone, the one with a class token, and stochastic depth.

use anyhow::{Context, Result};
use candle_core::{DType, Var};
use selfpatch_fixture::{Check, Fixture, Report, Tolerance, assigned, gradient, number, parameter_gradients, pixels};
use selfpatch_nn::Backbone;
use selfpatch_nn::{Survival, backward, drop_path_rates};
use selfpatch_vit::{Vit, VitConfig};

/// Every fixture of this crate.
pub const CHECKS: &[Check] = &[
    Check::single("vit", tokens_only),
    Check::single("vit_p8", tokens_only),
    Check::single("droppath", drop_path),
    Check::manifest("vit_cls", vit_cls),
];

/// Forward pass, positions, first tokens, intermediate layers and attention at every stored size.
fn tokens_only(f: &Fixture, report: &mut Report) -> Result<()> {
    let weights = f.weights("w/");
    let mut config = VitConfig::of_weights(&weights, f.int("num_heads")?)?;
    config.norm_eps = f.config["ln_eps"].as_f64().unwrap_or(config.norm_eps);
    for (dtype, p) in f.precisions() {
        let vit = Vit::new(&config, f.builder(&weights, dtype))?;
        let tolerance = Tolerance::reference(dtype);
        for size in f.under("in/") {
            let image = pixels(f.get(&format!("in/{size}"))?, dtype)?;
            // The reference's convolution ignores rows and columns that do not fill a patch.
            let (_, _, height, width) = image.dims4()?;
            let patch = config.patch_size;
            let image =
                image.narrow(2, 0, height / patch * patch)?.narrow(3, 0, width / patch * patch)?.contiguous()?;
            let (height, width) = (height / patch * patch, width / patch * patch);
            let expected = |what: &str| f.tensors.get(&format!("{p}/{size}/{what}"));
            if let Some(want) = expected("forward") {
                report.close(&format!("forward {p}"), &vit.forward(&image)?, want, tolerance)?;
            }
            if let Some(want) = expected("pos") {
                report.close(&format!("positions {p}"), &vit.positions(height, width)?, want, tolerance)?;
            }
            if let Some(want) = expected("prepared") {
                report.close(&format!("first tokens {p}"), &vit.tokens(&image)?, want, tolerance)?;
            }
            for what in f.under(&format!("{p}/{size}/intermediate")) {
                let (i, n) = what.split_once("_of_").context("intermediate layers are named i_of_n")?;
                let layers = vit.intermediate_layers(&image, n.parse()?)?;
                let layer = layers.get(i.parse::<usize>()?).context("intermediate layers are named i_of_n, i < n")?;
                let want = f.get(&format!("{p}/{size}/intermediate{what}"))?;
                report.close(&format!("intermediate layers {p}"), layer, want, tolerance)?;
            }
            if let Some(want) = expected("attn_last") {
                let (b, heads, _, _) = want.dims4()?;
                let got = vit.attention(&image)?.narrow(0, 0, b)?.narrow(1, 0, heads)?;
                report.close(&format!("attention {p}"), &got, want, tolerance)?;
            }
        }
    }
    Ok(())
}

/// Stochastic depth given its draws, and the rates of the blocks.
fn drop_path(f: &Fixture, report: &mut Report) -> Result<()> {
    for i in f.under("in/x") {
        let x = f.get(&format!("in/x{i}"))?;
        let u = f.get(&format!("in/u{i}"))?.flatten_all()?.to_vec1::<f32>()?;
        let rate = number(&f.values, &format!("p{i}"))?;
        let tolerance = Tolerance::reference(x.dtype());
        report.close("drop path f32", &Survival::new(rate, &u).apply(x)?, f.get(&format!("f32/y{i}"))?, tolerance)?;
    }
    for (name, list) in f.values.as_object().into_iter().flatten() {
        let Some((_, rate)) = name.split_once("_rates_for_") else { continue };
        let want: Vec<f64> = list.as_array().into_iter().flatten().filter_map(|v| v.as_f64()).collect();
        let got = drop_path_rates(rate.parse()?, want.len());
        let worst = got.iter().zip(&want).fold(0f64, |m, (g, w)| m.max((g - w).abs()));
        report.error("rates of the blocks", worst, 1e-8);
    }
    Ok(())
}

/// DINO's ViT with class token at several sizes, and gradients of a sum over class tokens.
fn vit_cls(f: &Fixture, report: &mut Report) -> Result<()> {
    let weights = f.weights("par.");
    let mut config = VitConfig::of_weights(&weights, f.int("heads")?)?;
    config.norm_eps = f.number("ln_eps")?;
    let vit = Vit::new(&config, f.builder(&weights, DType::F32))?;
    for size in f.under("in.img_") {
        let image = f.get(&format!("in.img_{size}"))?;
        let tokens = vit.forward(image)?;
        report.close("class token", &vit.cls(&tokens)?, f.get(&format!("out.cls_{size}"))?, Tolerance::OBJECTIVES)?;
        report.close("tokens", &tokens, f.get(&format!("out.tokens_{size}"))?, Tolerance::OBJECTIVES)?;
        let attention = vit.attention(image)?;
        report.close("attention", &attention, f.get(&format!("out.attn_last_{size}"))?, Tolerance::OBJECTIVES)?;
    }
    let params = assigned(f, &weights, |vb| Vit::new(&config, vb).map(drop))?;
    let vit = Vit::new(&config, params.builder(DType::F32, f.device()))?;
    let size = f.under("grad.img_").next().context("the fixture has no gradient of an image")?;
    let image = Var::from_tensor(f.get(&format!("in.img_{size}"))?)?;
    let loss = (vit.cls(&vit.forward(image.as_tensor())?)? * f.get("in.co")?)?.sum_all()?;
    report.close("loss", &loss, f.get("out.loss")?, Tolerance::OBJECTIVES)?;
    let grads = backward(&loss)?;
    gradient(f, report, &grads, &image, &format!("img_{size}"))?;
    parameter_gradients(f, report, &grads, &params)
}
