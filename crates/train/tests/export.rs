//! What a run exports makes the features of the teacher that was trained, bit for bit.

mod common;

use common::{session, tiny};
use selfpatch_model::Encoder;
use selfpatch_nn::random::normal;
use selfpatch_run::checkpoint;
use selfpatch_train::candle_core::{Device, Tensor};
use selfpatch_train::{Config, Measure, Network, run};
use selfpatch_vit::Vit;
use std::fs;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn numbers(t: &Tensor) -> Result<Vec<f32>, selfpatch_train::candle_core::Error> {
    t.flatten_all()?.to_vec1()
}

#[test]
fn an_exported_encoder_makes_the_features_of_the_network_in_training() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut config = tiny(folder.path());
    config.eval.davis.every = 1;
    let images = normal(1, (2, 3, 48, 48))?;
    let mut features = Vec::new();
    let mut judge = |_: Measure, teacher: &Network| {
        let of = || numbers(&teacher.image_features(&images)?);
        features.push(of().map_err(|e| e.to_string())?);
        Ok(0.5)
    };
    let summary = run(&config, &session(false), &Device::Cpu, &mut judge, |_| {})?;
    let (folder, device) = (&summary.folder, &Device::Cpu);
    let [first, last] = &features[..] else { return Err("not measured after both epochs".into()) };
    assert_ne!(first, last);

    let backbone = Vit::load(&selfpatch_model::backbone(folder), None, 3, device)?;
    let attention = Encoder::attention_of_run(folder, backbone.config(), device)?;
    assert!(attention.is_some());
    let exported = Encoder { backbone: backbone.clone(), attention };
    assert_eq!(&numbers(&exported.features(&images)?)?, last);
    assert_eq!(&numbers(&exported.probe_features(&images)?)?, last);

    // The teacher of the checkpoint is the same network.
    let newest = checkpoint::newest::<Config>(folder, |_| {})?.ok_or("no checkpoint")?;
    let path = newest.path.join("teacher.safetensors");
    let attention = Encoder::attention_beside(&path, None, backbone.config(), device)?;
    let kept = Encoder { backbone: backbone.clone(), attention };
    assert_eq!(&numbers(&kept.features(&images)?)?, last);

    // Runs of older versions exported the backbone alone.
    fs::remove_file(selfpatch_model::class_attention(folder))?;
    assert!(Encoder::attention_of_run(folder, backbone.config(), device)?.is_none());
    Ok(())
}

#[test]
fn an_exported_class_attention_names_its_tensors_as_checkpoints_do() -> Outcome {
    let folder = tempfile::tempdir()?;
    let config = tiny(folder.path());
    let run = run(&config, &session(false), &Device::Cpu, &mut common::unasked, |_| {})?.folder;
    let read = |path| selfpatch_weights::read(path, &Device::Cpu);
    let (attention, backbone) =
        (read(&selfpatch_model::class_attention(&run))?, read(&selfpatch_model::backbone(&run))?);
    assert!(attention.tensors.keys().all(|name| name.starts_with("ca_head.")), "{:?}", attention.tensors.keys());
    assert!(attention.tensors.contains_key("ca_head.cls_token"), "{:?}", attention.tensors.keys());
    assert!(backbone.tensors.keys().all(|name| !name.starts_with("ca_head.") && !name.starts_with("backbone.")));
    for name in ["num_heads", "patch_size", "image_size", "norm_eps", "channels", "mean", "std"] {
        let stated = backbone.metadata.get(name);
        assert!(stated.is_some() && stated == attention.metadata.get(name), "{name}: {stated:?}");
    }
    // Weights of another width are refused with the file's name.
    let wide = Vit::load(&selfpatch_model::backbone(&run), None, 3, &Device::Cpu)?;
    let of = selfpatch_vit::VitConfig { embed_dim: 24, ..wide.config().clone() };
    let refused = Encoder::attention_of_run(&run, &of, &Device::Cpu).map_or_else(|e| e.to_string(), |_| String::new());
    assert!(refused.contains("class_attention.safetensors"), "{refused}");
    Ok(())
}
