//! Loading backbones: layouts, prefixes, strictness, sizes.

use selfpatch_nn::Params;
use selfpatch_vit::candle_core::{DType, Device, Result, Tensor};
use selfpatch_vit::{Vit, VitConfig};
use selfpatch_weights::write_safetensors;
use std::path::Path;

/// Weights of a random backbone, each name put through `rename`.
fn weights(config: &VitConfig, rename: impl Fn(&str) -> String) -> Vec<(String, Tensor)> {
    let params = Params::frozen(5);
    Vit::new(config, params.builder(DType::F32, &Device::Cpu)).expect("a backbone");
    params.tensors().into_iter().map(|(name, t)| (rename(&name), t)).collect()
}

fn save(folder: &Path, tensors: &[(String, Tensor)]) -> std::path::PathBuf {
    let path = folder.join("w.safetensors");
    write_safetensors(&path, tensors, &[]).expect("written");
    path
}

fn features(vit: &Vit) -> Vec<f32> {
    let p = vit.config().patch_size;
    let x =
        Tensor::arange(0f32, (3 * 2 * p * 3 * p) as f32, &Device::Cpu).and_then(|t| t.reshape((1, 3, 2 * p, 3 * p)));
    let x = x.and_then(|x| (x / 1000.)?.sin()).expect("an image");
    vit.patch_features(&x).and_then(|t| t.flatten_all()?.to_vec1()).expect("features")
}

#[test]
fn every_layout_and_prefix_gives_the_same_features() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for config in [VitConfig::new(64, 2, 1, 16), VitConfig::new(64, 2, 1, 14).with_cls_and_norm()] {
        let plain =
            Vit::load(&save(folder.path(), &weights(&config, str::to_string)), None, 1, &Device::Cpu).expect("loads");
        assert_eq!(plain.config(), &config);
        for prefix in ["module.", "backbone.", "module.backbone.", "teacher.", "teacher.module.backbone."] {
            let path = save(folder.path(), &weights(&config, |n| format!("{prefix}{n}")));
            let vit = Vit::load(&path, None, 0, &Device::Cpu).expect(prefix);
            assert_eq!(features(&vit), features(&plain), "{prefix}");
        }
        // A whole network: heads beside the backbone are left alone.
        let mut all = weights(&config, |n| format!("backbone.{n}"));
        all.push(("c_head.mlp.0.weight".into(), all[0].1.clone()));
        assert_eq!(
            features(&Vit::load(&save(folder.path(), &all), None, 0, &Device::Cpu).expect("loads")),
            features(&plain)
        );
    }
}

#[test]
fn missing_extra_and_misshaped_names_are_listed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = VitConfig::new(64, 2, 1, 16);
    let mut tensors = weights(&config, str::to_string);
    tensors.retain(|(name, _)| name != "blocks.1.norm2.bias");
    tensors.push(("surplus".into(), tensors[0].1.clone()));
    let error = Vit::load(&save(folder.path(), &tensors), None, 0, &Device::Cpu).expect_err("refused").to_string();
    assert!(error.contains("blocks.1.norm2.bias") && error.contains("surplus"), "{error}");

    let mut tensors = weights(&config, str::to_string);
    for (name, t) in &mut tensors {
        if name == "blocks.0.attn.proj.weight" {
            *t = Tensor::zeros((64, 63), DType::F32, &Device::Cpu).expect("zeros");
        }
    }
    let error = Vit::load(&save(folder.path(), &tensors), None, 0, &Device::Cpu).expect_err("refused").to_string();
    assert!(error.contains("blocks.0.attn.proj.weight"), "{error}");
    let other = [("fc.weight".to_string(), Tensor::zeros(3, DType::F32, &Device::Cpu).expect("zeros"))];
    let error = Vit::load(&save(folder.path(), &other), None, 0, &Device::Cpu).expect_err("refused").to_string();
    assert!(error.contains("not the weights of a ViT") && error.contains("w.safetensors"), "{error}");
}

#[test]
fn a_width_of_zero_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shapes: [(&str, &[usize]); 3] =
        [("patch_embed.proj.weight", &[0, 3, 16, 16]), ("pos_embed", &[1, 4, 0]), ("blocks.0.mlp.fc1.weight", &[0, 0])];
    let zero = |s: &[usize]| Tensor::zeros(s, DType::F32, &Device::Cpu).expect("zeros");
    let tensors: Vec<_> = shapes.iter().map(|(name, s)| (name.to_string(), zero(s))).collect();
    assert!(Vit::load(&save(folder.path(), &tensors), None, 0, &Device::Cpu).is_err());
}

#[test]
fn heads_that_cannot_be_known_must_be_stated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = save(folder.path(), &weights(&VitConfig::new(48, 1, 3, 8), str::to_string));
    let error = Vit::load(&path, None, 0, &Device::Cpu).expect_err("refused").to_string();
    assert!(error.contains("num_heads"), "{error}");
    assert_eq!(Vit::load(&path, None, 3, &Device::Cpu).expect("loads").config().num_heads, 3);
}

#[test]
fn images_that_the_patch_does_not_divide_are_refused() -> Result<()> {
    let vit = Vit::new(&VitConfig::new(24, 1, 3, 8), Params::frozen(0).builder(DType::F32, &Device::Cpu))?;
    let error =
        vit.forward(&Tensor::zeros((1, 3, 20, 24), DType::F32, &Device::Cpu)?).expect_err("refused").to_string();
    assert!(error.contains("20 x 24") && error.contains('8'), "{error}");
    assert!(vit.forward(&Tensor::zeros((1, 4, 24, 24), DType::F32, &Device::Cpu)?).is_err());
    assert!(VitConfig::new(25, 1, 3, 8).validate().is_err());
    for (h, w) in [(8, 8), (8, 64), (24, 40)] {
        let x = Tensor::zeros((2, 3, h, w), DType::F32, &Device::Cpu)?;
        assert_eq!(vit.forward(&x)?.dims(), [2, h / 8 * (w / 8), 24]);
    }
    Ok(())
}

#[test]
fn published_sizes() -> Result<()> {
    // Parameters of the token-only backbones at 16 pixels, as published.
    for (arch, expected) in [("vit_tiny", 5_523_648), ("vit_small", 21_664_128)] {
        let params = Params::frozen(0);
        Vit::new(&VitConfig::arch(arch, 16)?, params.builder(DType::F32, &Device::Cpu))?;
        assert_eq!(params.iter().map(|(_, v)| v.elem_count()).sum::<usize>(), expected);
    }
    assert!(VitConfig::arch("vit_huge", 16).is_err());
    Ok(())
}
