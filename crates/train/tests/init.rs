//! Runs that begin with weights: of other runs, of training checkpoints, of backbones.

mod common;

use common::{go, session, tiny};
use selfpatch_datasets::MultiCrop;
use selfpatch_nn::Params;
use selfpatch_run::Event;
use selfpatch_train::candle_core::{DType, Device, Tensor};
use selfpatch_train::{Config, Error, run};
use selfpatch_vit::{Vit, VitConfig};
use selfpatch_weights::{read, write_safetensors};
use std::path::Path;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn a_run_may_begin_with_the_weights_of_another() -> Outcome {
    let folder = tempfile::tempdir()?;
    let config = tiny(folder.path());
    go(&config, false)?;
    let first_loss = |name: &str, from: &Path, change: fn(&mut Config)| -> Result<f64, Error> {
        let mut c = config.clone();
        c.output_dir = folder.path().join(name);
        c.init_from = from.to_string_lossy().into_owned();
        c.optim.max_steps = Some(1);
        change(&mut c);
        Ok(go(&c, false)?[0])
    };
    let fresh = first_loss("fresh", Path::new(""), |_| {})?;
    let whole = first_loss("whole", &config.output_dir, |_| {})?;
    let one = first_loss("one", &config.output_dir.join("checkpoints/step-000008"), |_| {})?;
    let backbone = config.output_dir.join("export/backbone.safetensors");
    let bare = first_loss("bare", &backbone, |_| {})?;
    assert!(whole == one && whole != bare && bare != fresh, "{whole} {one} {bare} {fresh}");
    // Another grid of positions, other heads: fine for a backbone, not for a whole network.
    let other: fn(&mut Config) = |c| (c.model.image_size, c.head.out_dim) = (56, 40);
    assert!(first_loss("grid", &backbone, other)?.is_finite());
    let error = first_loss("heads", &config.output_dir, other).expect_err("other shapes").to_string();
    assert!(error.contains("pos_embed") && error.contains("student.safetensors"), "{error}");
    let error = first_loss("none", folder.path(), |_| {}).expect_err("no weights").to_string();
    assert!(error.contains("--init-from"), "{error}");
    Ok(())
}

/// What a run says of the weights it begins with.
fn told(config: &Config, from: &Path) -> Result<String, Error> {
    let mut config = config.clone();
    config.init_from = from.to_string_lossy().into_owned();
    config.optim.max_steps = Some(1);
    let mut told = String::new();
    run(&config, &session(true), &Device::Cpu, &mut common::unasked, |event| {
        if let Event::Notice(text) = event {
            told += text;
        }
    })?;
    Ok(told)
}

#[test]
fn a_run_begins_with_the_backbone_of_a_training_checkpoint_and_says_what_it_left() -> Outcome {
    let folder = tempfile::tempdir()?;
    let config = tiny(folder.path());
    let shape = VitConfig { num_heads: 3, ..VitConfig::new(12, 2, 3, 8).with_image_size(32).with_cls_and_norm() };
    let made = |shape: &VitConfig, seed: u64, place: &str| -> Result<Vec<(String, Tensor)>, Error> {
        let params = Params::frozen(seed);
        Vit::new(shape, params.builder(DType::F32, &Device::Cpu).pp("backbone"))?;
        let mut all: Vec<_> = params.tensors().into_iter().map(|(n, t)| (format!("{place}{n}"), t)).collect();
        for name in ["head.mlp.0.weight", "head.mlp.0.bias", "head.last_layer.weight_v"] {
            all.push((format!("{place}{name}"), Tensor::zeros((2, 2), DType::F32, &Device::Cpu)?));
        }
        Ok(all)
    };
    let network = |seed: u64, place: &str| made(&shape, seed, place);
    // As main_dino.py of DINO has them: both networks with their heads.
    let path = folder.path().join("dino.safetensors");
    let all = [network(1, "student.module.")?, network(2, "teacher.")?].concat();
    write_safetensors(&path, &all, &[])?;
    let said = told(&config, &path)?;
    for part in ["both backbones begin as", "(teacher.backbone)", "cls_token (1 tensor)", "head.* (3 tensors)", "4 x 4"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    // The teacher's, not the student's.
    let after = read(&config.output_dir.join("checkpoints/step-000001/teacher.safetensors"), &Device::Cpu)?.tensors;
    let name = "backbone.blocks.1.mlp.fc1.weight";
    let near = |place: &str| -> Result<f32, Box<dyn std::error::Error>> {
        let own = all.iter().find(|(n, _)| *n == format!("{place}{name}")).ok_or("no such tensor")?;
        Ok((&after[name] - &own.1)?.abs()?.mean_all()?.to_scalar()?)
    };
    assert!(near("teacher.")? < 0.1 * near("student.module.")?);

    // Of other channels, or other heads by its metadata: refused.
    write_safetensors(&path, &made(&VitConfig { in_channels: 4, ..shape.clone() }, 2, "")?, &[])?;
    let error = told(&config, &path).expect_err("other channels").to_string();
    assert!(error.contains("4 channels") && error.contains("data.channels"), "{error}");
    write_safetensors(&path, &network(2, "")?, &[("num_heads".into(), "6".into())])?;
    let error = told(&config, &path).expect_err("other heads").to_string();
    assert!(error.contains("num_heads") && error.contains('6'), "{error}");
    Ok(())
}

#[test]
fn a_backbone_with_a_narrow_feed_forward_part_begins_a_run_that_is_configured_for_it() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut config = tiny(folder.path());
    let shape = VitConfig { mlp_ratio: 1, ..VitConfig::new(16, 1, 1, 16).with_image_size(32).with_cls_and_norm() };
    let params = Params::frozen(4);
    Vit::new(&shape, params.builder(DType::F32, &Device::Cpu))?;
    let half: Vec<_> =
        params.tensors().into_iter().map(|(n, t)| Ok((n, t.to_dtype(DType::F16)?))).collect::<Result<_, Error>>()?;
    let path = folder.path().join("narrow.safetensors");
    write_safetensors(&path, &half, &[("num_heads".into(), "1".into())])?;
    // The error has the settings that are missing.
    let error = told(&config, &path).expect_err("another shape").to_string();
    let fits = "--arch custom --set model.embed_dim=16 --set model.depth=1 --set model.num_heads=1 --set \
                model.mlp_ratio=1 --set model.patch_size=16 fits it";
    assert!(
        error.contains("another shape than this run: embed_dim 16, not 12; depth 1, not 2; ") && error.contains(fits),
        "{error}"
    );
    (config.model.embed_dim, config.model.depth, config.model.num_heads) = (16, 1, 1);
    (config.model.patch_size, config.model.image_size, config.model.mlp_ratio) = (16, 32, 1);
    config.crops = MultiCrop::dino(32, 32, 2, [0.25, 1.], [0.05, 0.25]);
    config.patch_loss.k_num = 3;
    let said = told(&config, &path)?;
    assert!(said.contains("both backbones begin as") && said.contains("cls_token (1 tensor)"), "{said}");
    let teacher = config.output_dir.join("checkpoints/step-000001/teacher.safetensors");
    assert_eq!(read(&teacher, &Device::Cpu)?.tensors["backbone.blocks.0.mlp.fc1.weight"].dims(), [16, 16]);
    // Readers of the export find it, and so does the run itself.
    let export = config.output_dir.join("export/backbone.safetensors");
    assert_eq!(Vit::load(&export, None, 0, &Device::Cpu)?.config().mlp_ratio, 1);
    config.optim.max_steps = Some(2);
    assert_eq!(go(&config, false)?.len(), 1);
    config.model.mlp_ratio = 4;
    let error = go(&config, false).expect_err("another network").to_string();
    assert!(error.contains("model.mlp_ratio: 1 -> 4"), "{error}");
    Ok(())
}
