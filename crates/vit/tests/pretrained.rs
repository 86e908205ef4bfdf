//! Files of other programs: small models of timm and transformers (`data/make_models.py`) give the tokens that these
//! programs give, wherever in a file they are; what would be computed otherwise is refused by name.

use selfpatch_vit::candle_core::{D, DType, Device, Tensor};
use selfpatch_vit::{Pretrained, Rule, Vit};
use selfpatch_weights::{self as weights, WeightsError, write_safetensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, WeightsError> {
    Ok(weights::read(path, &Device::Cpu)?.tensors)
}

/// Largest difference of two tensors.
fn apart(a: &Tensor, b: &Tensor) -> Result<f32, Box<dyn std::error::Error>> {
    if a.dims() != b.dims() {
        return Err(format!("{:?} {:?}", a.dims(), b.dims()).into());
    }
    Ok((a - b)?.abs()?.flatten_all()?.max(D::Minus1)?.to_scalar()?)
}

/// Tokens as close to the other program's as sums of f32 in another order are.
const CLOSE: f32 = 1e-5;

#[test]
fn features_equal_those_of_timm_and_transformers() -> Outcome {
    let expected = tensors(&data("expected.safetensors"))?;
    let (version4, version5) = ("model.safetensors", "names-of-version-5.safetensors");
    for (name, file, heads, rule) in [
        ("timm-plain", version4, 2, Rule::Timm),
        ("timm-no-embed-class", version4, 2, Rule::Timm),
        ("timm-scaled-registers", version4, 2, Rule::Timm),
        ("timm-registers-with-positions", version4, 2, Rule::Timm),
        ("timm-fc-norm", version4, 2, Rule::Timm),
        ("timm-gap", version4, 2, Rule::Timm),
        ("timm-no-qkv-bias", version4, 2, Rule::Timm),
        ("timm-distilled", version4, 2, Rule::Timm),
        ("dinov2-registers", "model.pth", 2, Rule::Timm),
        ("mae", "model.pth", 2, Rule::Timm),
        // Heads and epsilon are in config.json.
        ("hf-vit", version4, 0, Rule::Transformers),
        ("hf-vit", version5, 0, Rule::Transformers),
        ("hf-deit", version4, 0, Rule::Transformers),
        ("hf-deit", version5, 0, Rule::Transformers),
        ("hf-dinov2", version4, 0, Rule::Transformers),
        ("hf-dinov2", version5, 0, Rule::Transformers),
        ("hf-dinov2-registers", version4, 0, Rule::Timm),
        ("hf-dinov2-registers", version5, 0, Rule::Timm),
        ("hf-mae", version4, 0, Rule::Transformers),
        ("hf-mae", version5, 0, Rule::Transformers),
    ] {
        let found = Pretrained::read(&data(name).join(file), None, heads, &Device::Cpu)
            .map_err(|e| format!("{name}/{file}: {e}"))?;
        if name.starts_with("hf-") || name.contains("scaled-registers") {
            assert_eq!(found.config.positions, rule, "{name}");
        }
        let vit = found.vit(&Device::Cpu)?.with_positions(rule);
        for size in ["native", "other"] {
            let Some(want) = expected.get(&format!("{name}.{size}")) else { continue };
            let tokens = vit.forward(&expected[&format!("image.{size}")])?;
            let off = apart(&tokens, want).map_err(|e| format!("{name}, {size}: {e}"))?;
            assert!(off < CLOSE, "{name}/{file}, {size}: {off}");
        }
        if let Some(want) = expected.get(&format!("{name}.pooled")) {
            let off = apart(&vit.pooled(&vit.forward(&expected["image.native"])?)?, want)?;
            assert!(off < CLOSE, "{name}, one feature: {off}");
        }
    }
    Ok(())
}

#[test]
fn positions_follow_dino_unless_the_names_say_otherwise() -> Outcome {
    let image = &tensors(&data("expected.safetensors"))?["image.other"];
    let vit = Vit::load(&data("timm-plain").join("model.safetensors"), None, 2, &Device::Cpu)?;
    assert_eq!(vit.config().positions, Rule::Dino);
    let mut seen: Vec<Tensor> = Vec::new();
    for rule in Rule::ALL {
        let tokens = vit.clone().with_positions(rule).forward(image)?;
        for other in &seen {
            assert!(apart(&tokens, other)? > 1e-3, "{rule:?} is as another rule");
        }
        seen.push(tokens);
    }
    Ok(())
}

/// A small model under changed names, with others beside it.
fn renamed(
    folder: &Path,
    rename: impl Fn(&str) -> String,
    more: &[(&str, DType)],
) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let mut all: Vec<(String, Tensor)> =
        tensors(&data("timm-plain").join("model.safetensors"))?.into_iter().map(|(n, t)| (rename(&n), t)).collect();
    for (name, dtype) in more {
        all.push((name.to_string(), Tensor::zeros((2, 2), *dtype, &Device::Cpu)?));
    }
    let path = folder.join("w.safetensors");
    write_safetensors(&path, &all, &[])?;
    Ok(path)
}

#[test]
fn prefixes_in_any_nesting_are_found_and_what_lies_beside_is_named() -> Outcome {
    let folder = tempfile::tempdir()?;
    let plain = tensors(&data("timm-plain").join("model.safetensors"))?;
    for prefix in [
        "",
        "encoder.",
        "vit.",
        "backbone.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.backbone.",
        "module.base_encoder.",
        "module.momentum_encoder.",
        "state_dict.model.net.encoder.vit.",
        "teacher.module.backbone.",
    ] {
        let path = renamed(folder.path(), |n| format!("{prefix}{n}"), &[])?;
        let found = Pretrained::read(&path, None, 2, &Device::Cpu).map_err(|e| format!("{prefix}: {e}"))?;
        assert_eq!(found.place, prefix.trim_end_matches('.'));
        assert_eq!(found.left_out(), "head.* (2 tensors)");
        assert_eq!(found.tensors.len() + 2, plain.len(), "{prefix}");
    }
    let beside = [("module.head.mlp.0.weight", DType::F32), ("module.predictor.0.weight", DType::F32)];
    let path = renamed(folder.path(), |n| format!("module.backbone.{n}"), &beside)?;
    let found = Pretrained::read(&path, None, 2, &Device::Cpu)?;
    assert_eq!(found.left_out(), "head.* (3 tensors), predictor.* (1 tensor)");

    // Two networks: one is preferred, the other can be asked for, also by its place.
    let two = |first: &str, second: &str| -> Result<PathBuf, Box<dyn std::error::Error>> {
        let mut all = Vec::new();
        for (name, t) in tensors(&data("timm-plain").join("model.safetensors"))? {
            all.push((format!("{first}.{name}"), t.clone()));
            all.push((format!("{second}.{name}"), t));
        }
        let path = folder.path().join("two.safetensors");
        write_safetensors(&path, &all, &[])?;
        Ok(path)
    };
    let path = two("module.momentum_encoder", "module.base_encoder")?;
    let found = Pretrained::read(&path, None, 2, &Device::Cpu)?;
    assert_eq!(
        (found.place.as_str(), &found.others[..]),
        ("module.base_encoder", &["module.momentum_encoder".into()][..])
    );
    assert_eq!(found.left_out(), "head.* (2 tensors)");
    let found = Pretrained::read(&path, Some("momentum_encoder"), 2, &Device::Cpu)?;
    assert_eq!(found.place, "module.momentum_encoder");
    let error =
        Pretrained::read(&path, Some("teacher"), 2, &Device::Cpu).map(drop).expect_err("no such key").to_string();
    assert!(error.contains("`teacher`") && error.contains("base_encoder, module, momentum_encoder"), "{error}");
    let path = two("left", "right")?;
    let error = Pretrained::read(&path, None, 2, &Device::Cpu).map(drop).expect_err("a tie").to_string();
    assert!(error.contains("`left`, `right`") && error.contains("--checkpoint-key"), "{error}");
    assert_eq!(Pretrained::read(&path, Some("right"), 2, &Device::Cpu)?.place, "right");
    Ok(())
}

#[test]
fn a_training_checkpoint_of_dinov2_is_read_out_of_its_dicts() -> Outcome {
    let found = Pretrained::read(&data("dinov2-registers/model.pth"), None, 2, &Device::Cpu)?;
    assert_eq!((found.place.as_str(), found.config.registers), ("teacher.backbone", 4));
    assert_eq!(found.left_out(), "dino_head.* (1 tensor), mask_token (1 tensor)");
    assert!(found.notes.iter().any(|note| note.contains("LayerScale")), "{:?}", found.notes);
    let found = Pretrained::read(&data("mae/model.pth"), None, 2, &Device::Cpu)?;
    assert!(found.left_out().contains("decoder_blocks.* (1 tensor)"), "{}", found.left_out());
    Ok(())
}

#[test]
fn what_would_be_computed_otherwise_is_refused_by_name() -> Outcome {
    let folder = tempfile::tempdir()?;
    let of = |rename: &dyn Fn(&str) -> String, more: &[(&str, DType)]| -> Result<String, Box<dyn std::error::Error>> {
        let path = renamed(folder.path(), rename, more)?;
        Ok(Pretrained::read(&path, None, 2, &Device::Cpu).map(drop).expect_err("refused").to_string())
    };
    let same = |n: &str| n.to_string();
    for (name, says) in [
        ("rope_embed.periods", "rotary"),
        ("blocks.0.mlp.w12.weight", "SwiGLU"),
        ("blocks.0.attn.q_norm.weight", "qk_norm"),
        ("norm_pre.weight", "CLIP"),
        ("attn_pool.latent", "SigLIP"),
        ("patch_embed.backbone.stem.conv.weight", "hybrid"),
        ("blocks.0.attn.relative_position_bias_table", "BEiT"),
        ("blocks.0.attn.q_bias", "EVA"),
        ("blocks.0.attn.qkv.lora_A", "LoRA"),
        ("blocks.0.mlp.fc1.SCB", "quantised"),
        ("blocks.0.in_proj.weight", "parallel"),
        ("blocks.0.attns.0.ls.gamma", "parallel"),
        ("stages.0.norm.weight", "stages"),
        ("surplus", "extra (1): surplus"),
    ] {
        let error = of(&same, &[(name, DType::F32)])?;
        assert!(error.contains(says) && error.contains("w.safetensors"), "{name}: {error}");
    }
    // No table of positions.
    let error = of(&|n| if n == "pos_embed" { "head.x".into() } else { n.into() }, &[])?;
    assert!(error.contains("rotary") && error.contains("there are none") && error.contains("DINOv2"), "{error}");
    // Norms and layers without biases.
    for (without, says) in [(".norm1.bias", "RMSNorm"), (".attn.proj.bias", "proj_bias")] {
        let error = of(&|n| if n.ends_with(without) { format!("head.{n}") } else { n.into() }, &[])?;
        assert!(error.contains(says), "{error}");
    }
    // A gate in the place of a wider layer, as timm packs it.
    let path = renamed(folder.path(), same, &[])?;
    let mut all: Vec<_> = tensors(&path)?.into_iter().collect();
    for (name, t) in &mut all {
        if name.ends_with("mlp.fc2.weight") {
            *t = Tensor::zeros((16, 16), DType::F32, &Device::Cpu)?;
        }
    }
    write_safetensors(&path, &all, &[])?;
    let error = Pretrained::read(&path, None, 2, &Device::Cpu).map(drop).expect_err("refused").to_string();
    assert!(error.contains("SwiGLU"), "{error}");
    // Models that are no such ViT at all.
    for (name, says) in [
        ("layer1.0.conv1.weight", "convolutional"),
        ("blocks.0.0.bn1.bias", "convolutional"),
        ("visual.transformer.resblocks.0.ln_1.weight", "CLIP"),
        ("layers.0.blocks.0.attn.relative_position_bias_table", "Swin"),
        ("encoder.layers.encoder_layer_0.ln_1.weight", "torchvision"),
        ("embeddings.patch_embeddings.weight", "DINOv3"),
        ("embeddings.patch_embedding.weight", "CLIP"),
        ("vision_encoder.layers.0.attn.rel_pos_h", "SAM"),
        ("embeddings.projection.weight", "ViTDet"),
        ("encoder.patch_embeddings.0.proj.weight", "SegFormer"),
        ("blocks.0.mlp_tokens.fc1.weight", "Mixer"),
        ("embeds.proj.weight", "NaFlexViT"),
        ("features.0.weight", "convolutional"),
        ("anything", "its names are anything"),
    ] {
        let path = folder.path().join("w.safetensors");
        write_safetensors(&path, &[(name.into(), Tensor::zeros(2, DType::F32, &Device::Cpu)?)], &[])?;
        let error = Pretrained::read(&path, None, 2, &Device::Cpu).map(drop).expect_err("refused").to_string();
        assert!(error.contains(says), "{name}: {error}");
    }
    Ok(())
}

#[test]
fn counters_beside_a_backbone_without_prefix_are_left_out() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = renamed(folder.path(), str::to_string, &[("queue_of_labels", DType::I64)])?;
    let mut all: Vec<_> = tensors(&path)?.into_iter().collect();
    all.push(("global_step".into(), Tensor::new(3i64, &Device::Cpu)?));
    all.push(("temperature".into(), Tensor::new(1f32, &Device::Cpu)?));
    write_safetensors(&path, &all, &[])?;
    let found = Pretrained::read(&path, None, 2, &Device::Cpu)?;
    let left = found.left_out();
    for name in ["global_step (1 tensor)", "temperature (1 tensor)", "queue_of_labels (1 tensor)"] {
        assert!(left.contains(name), "{left}");
    }
    // A part of the backbone in such numbers is still an error.
    for (name, t) in &mut all {
        if name == "cls_token" {
            *t = t.to_dtype(DType::I64)?;
        }
    }
    write_safetensors(&path, &all, &[])?;
    let error = Pretrained::read(&path, None, 2, &Device::Cpu).map(drop).expect_err("refused").to_string();
    assert!(error.contains("cls_token"), "{error}");
    Ok(())
}

#[test]
fn a_file_without_tensors_is_told_without_an_empty_list() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("w.safetensors");
    write_safetensors(&path, &[], &[])?;
    let error = Pretrained::read(&path, None, 2, &Device::Cpu).map(drop).expect_err("refused").to_string();
    assert!(error.contains("eight deep") && error.contains("state_dict"), "{error}");
    Ok(())
}

/// A hidden width of 24 gives what one of 32 gives whose last 8 columns are zeros.
#[test]
fn the_hidden_width_may_be_any() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (mut narrow, mut zeroed) = (Vec::new(), Vec::new());
    for (name, t) in tensors(&data("timm-plain").join("model.safetensors"))? {
        let (short, long) = match name.as_str() {
            n if n.contains("mlp.fc1.") => (t.narrow(0, 0, 24)?.contiguous()?, t),
            n if n.ends_with("mlp.fc2.weight") => {
                let short = t.narrow(1, 0, 24)?.contiguous()?;
                let zeros = t.narrow(1, 24, 8)?.zeros_like()?;
                (short.clone(), Tensor::cat(&[&short, &zeros], 1)?)
            }
            _ => (t.clone(), t),
        };
        narrow.push((name.clone(), short));
        zeroed.push((name, long));
    }
    let mut all = Vec::new();
    for (file, tensors) in [("narrow.safetensors", narrow), ("zeroed.safetensors", zeroed)] {
        write_safetensors(&folder.path().join(file), &tensors, &[])?;
        let found = Pretrained::read(&folder.path().join(file), None, 2, &Device::Cpu)?;
        let image = &self::tensors(&data("expected.safetensors"))?["image.native"];
        all.push((found.config.hidden(), found.vit(&Device::Cpu)?.forward(image)?));
    }
    assert_eq!((all[0].0, all[1].0), (24, 32));
    assert!(apart(&all[0].1, &all[1].1)? < CLOSE);
    Ok(())
}

/// A safetensors file with one tensor of a kind that candle lacks, beside a model.
#[test]
fn numbers_of_eight_bits_are_named() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = renamed(folder.path(), str::to_string, &[])?;
    let bytes = std::fs::read(&path)?;
    let length = u64::from_le_bytes(bytes[..8].try_into()?) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length])?;
    let name = "blocks.0.mlp.fc1.weight";
    // The same bytes as four times as many numbers of eight bits.
    for (kind, says) in [("F8_E4M3", "fp8"), ("F8_E5M2", "fp8"), ("I8", "int8"), ("U8", "uint8")] {
        let start = header.find(&format!("\"{name}\"")).ok_or("no such tensor")?;
        let (before, entry) = header.split_at(start);
        let entry = entry.replacen("\"F32\"", &format!("\"{kind}\""), 1).replacen("[32,16]", "[128,16]", 1);
        let mut text = format!("{before}{entry}");
        while !text.len().is_multiple_of(8) {
            text.push(' ');
        }
        let file = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &bytes[8 + length..]].concat();
        std::fs::write(&path, file)?;
        let error = Pretrained::read(&path, None, 2, &Device::Cpu).map(drop).expect_err(kind).to_string();
        assert!(error.contains(says) && error.contains(name) && error.contains("f16"), "{kind}: {error}");
    }
    Ok(())
}

#[test]
fn heads_that_contradict_what_is_stated_are_refused() -> Outcome {
    let path = data("hf-vit/model.safetensors");
    let error = Pretrained::read(&path, None, 2, &Device::Cpu).map(drop).expect_err("two heads").to_string();
    assert!(error.contains("has 4 by config.json"), "{error}");
    // Without config.json nothing states the heads of a width of 16, and the epsilon is that of ViT there.
    let folder = tempfile::tempdir()?;
    let alone = folder.path().join("model.safetensors");
    std::fs::copy(&path, &alone)?;
    let error = Pretrained::read(&alone, None, 0, &Device::Cpu).map(drop).expect_err("no heads").to_string();
    assert!(error.contains("--num-heads"), "{error}");
    let found = Pretrained::read(&alone, None, 4, &Device::Cpu)?;
    assert_eq!(found.config.norm_eps, 1e-12);
    assert!(found.notes.iter().any(|note| note.contains("1e-12")), "{:?}", found.notes);
    // A config.json of another model says nothing; one with another activation is refused.
    std::fs::write(folder.path().join("config.json"), r#"{"hidden_size": 99, "num_attention_heads": 3}"#)?;
    assert_eq!(Pretrained::read(&alone, None, 4, &Device::Cpu)?.config.num_heads, 4);
    std::fs::write(folder.path().join("config.json"), r#"{"hidden_size": 16, "hidden_act": "quick_gelu"}"#)?;
    let error = Pretrained::read(&alone, None, 4, &Device::Cpu).map(drop).expect_err("another activation").to_string();
    assert!(error.contains("quick_gelu") && error.contains("GELU"), "{error}");
    Ok(())
}
