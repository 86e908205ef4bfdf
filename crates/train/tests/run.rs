//! Whole runs of a tiny configuration: what is trained, what is left behind, what is refused.

mod common;

use common::{HYPER, crops, go, session, tiny, unasked};
use selfpatch_losses::At;
use selfpatch_nn::Backbone;
use selfpatch_nn::backward;
use selfpatch_nn::random::normal;
use selfpatch_run::Event;
use selfpatch_train::candle_core::{DType, Device, Tensor};
use selfpatch_train::config::{Aggregation, Algorithm, Border, Config};
use selfpatch_train::{Error, Hyper, Measure, Network, Settings, Trainer, run};
use selfpatch_vit::Pass;
use selfpatch_weights as weights;
use std::collections::BTreeMap;
use std::path::Path;

/// A way to spoil or vary a configuration.
type Change = fn(&mut Config);

#[test]
fn the_teacher_is_measured_when_the_configuration_says_so() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    config.eval.davis.every = 1;
    config.eval.knn.every = 2;
    config.eval.knn.train = "classes".into();
    let (mut asked, mut told) = (Vec::new(), Vec::new());
    let mut judge = |what: Measure, teacher: &Network| {
        let features = teacher.image_features(&normal(1, (2, 3, 48, 48)).expect("pixels")).expect("features");
        assert_eq!(features.dims(), [2, 12]);
        asked.push(what);
        if asked.len() == 2 { Err("no videos".to_string()) } else { Ok(0.25 * asked.len() as f64) }
    };
    let mut warnings = 0;
    run(&config, &session(false), &Device::Cpu, &mut judge, |event| match event {
        Event::Step(r) => told.push((r.get("davis_jf"), r.get("knn_top1"))),
        Event::Warning(w) => warnings += usize::from(w == "eval.davis: no videos"),
        _ => {}
    })?;
    assert_eq!((asked, warnings), (vec![Measure::Davis, Measure::Davis, Measure::Knn], 1));
    let log = selfpatch_run::log::read(&config.output_dir).expect("a log");
    let logged: Vec<_> = log.iter().map(|r| (r.get("davis_jf"), r.get("knn_top1"))).collect();
    assert_eq!(logged, told);
    told.retain(|measured| *measured != (None, None));
    assert_eq!(told, [(Some(0.25), None), (None, Some(0.75))]);
    Ok(())
}

fn tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let read = weights::read(path, &Device::Cpu).expect("a weight file").tensors;
    let values = |t: Tensor| t.flatten_all().and_then(|t| t.to_vec1()).expect("f32");
    read.into_iter().map(|(name, t)| (name, values(t))).collect()
}

#[test]
fn every_trainable_parameter_receives_a_gradient() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for norm_last_layer in [true, false] {
        for lambda in [0.1, 0.0] {
            let mut config = tiny(folder.path());
            config.head.norm_last_layer = norm_last_layer;
            config.patch_loss.lambda = lambda;
            let trainer = Trainer::new(Settings::of(&config)?, DType::F32, &Device::Cpu)?;
            let crops = crops(2);
            let patches = trainer.teacher().backbone.patches(&crops)?;
            let teacher = trainer.teacher_rows(&patches)?;
            let student = trainer.student_rows(&patches, &Pass::default(), 9)?;
            let grads = backward(&trainer.loss(&student, &teacher, &patches, 2, &HYPER)?.total)?;
            for (name, var) in trainer.student_params.iter() {
                let frozen = norm_last_layer && name.ends_with("weight_g");
                let gradient = grads.get(&var);
                assert_eq!(gradient.is_some(), !frozen, "{name}");
                if let Some(g) = gradient {
                    let largest = g.abs()?.max_all()?.to_scalar::<f32>()?;
                    // The gradient of a key bias is zero analytically: only rounding is left.
                    let zero = name.ends_with("attn.k.bias");
                    assert!(largest.is_finite() && (largest > 0. || zero), "{name}: {largest}");
                }
            }
            assert!(trainer.teacher_params.iter().all(|(_, v)| grads.get(&v).is_none()));
            assert_eq!(trainer.student_params.iter().any(|(n, _)| n.starts_with("p_head")), lambda > 0.);
        }
    }
    Ok(())
}

#[test]
fn the_loss_falls_on_repeated_crops() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    config.model.drop_path_rate = 0.;
    let mut trainer = Trainer::new(Settings::of(&config)?, DType::F32, &Device::Cpu)?;
    let crops = crops(4);
    let mut losses = Vec::new();
    for step in 0..30 {
        losses.push(trainer.step(&crops, 4, step, &HYPER)?.losses[0]);
    }
    assert!(losses[29] < 0.9 * losses[0], "{losses:?}");
    Ok(())
}

#[test]
fn frozen_prototypes_stay_as_they_are() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    config.optim.freeze_last_layer = 1;
    let mut trainer = Trainer::new(Settings::of(&config)?, DType::F32, &Device::Cpu)?;
    let value = |t: &Trainer| -> Result<Vec<f32>, Error> {
        let var = t.student_params.get("c_head.last_layer.weight_v").expect("the prototypes");
        Ok(var.flatten_all()?.to_vec1()?)
    };
    let before = value(&trainer)?;
    let crops = crops(2);
    trainer.step(&crops, 2, 0, &Hyper { at: At { step: 0, epoch: 0 }, ..HYPER })?;
    assert_eq!(value(&trainer)?, before);
    assert!(!trainer.optimizer.steps()?.keys().any(|name| name.contains("last_layer")));
    trainer.step(&crops, 2, 1, &HYPER)?;
    assert_ne!(value(&trainer)?, before);
    assert_eq!(trainer.optimizer.steps()?["c_head.last_layer.weight_v"], 1);
    Ok(())
}

/// Losses, weights of both networks and centres after two steps.
fn two_steps(config: &Config, images: usize) -> Result<Vec<f64>, Error> {
    let mut trainer = Trainer::new(Settings::of(config)?, DType::F32, &Device::Cpu)?;
    let crops = crops(images);
    let mut values = Vec::new();
    for step in 0..2 {
        let report = trainer.step(&crops, images, step, &HYPER)?;
        values.extend(report.losses);
        values.push(report.number("teacher_entropy"));
    }
    let centers = [trainer.objective.state().remove(0).1, trainer.patch.center().value().clone()];
    let params = trainer.student_params.tensors().into_iter().chain(trainer.teacher_params.tensors());
    for t in params.map(|(_, t)| t).chain(centers) {
        values.extend(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?);
    }
    Ok(values)
}

#[test]
fn accumulated_parts_equal_the_whole_batch() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    config.optim.batch_size = 5;
    let whole = two_steps(&config, 5)?;
    for parts in [2, 3, 5] {
        config.optim.accumulate = parts;
        for (a, b) in whole.iter().zip(two_steps(&config, 5)?) {
            // Adam turns rounding noise of near-zero gradients into steps of up to lr = 1e-3.
            assert!((a - b).abs() < 4e-3, "{parts} parts: {a} {b}");
        }
        let (a, b) = (&whole[..8], &two_steps(&config, 5)?[..8]);
        for (i, (a, b)) in a.iter().zip(b).enumerate().take(4) {
            assert!((a - b).abs() < 1e-5 * a.abs(), "{parts} parts, number {i} of the first step: {a} {b}");
        }
    }
    config.head.use_bn_in_head = true;
    let refused = config.check().unwrap_err().to_string();
    assert!(refused.contains("optim.accumulate"), "{refused}");
    Ok(())
}

#[test]
fn gradients_of_parts_equal_those_of_the_whole_batch() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    config.optim.batch_size = 4;
    config.optim.optimizer = Algorithm::Sgd; // the weights then move by the gradients themselves
    config.optim.clip_grad = 0.;
    let whole = two_steps(&config, 4)?;
    config.optim.accumulate = 3;
    for (a, b) in whole.iter().zip(two_steps(&config, 4)?) {
        assert!((a - b).abs() < 1e-5 * a.abs().max(1.), "{a} {b}");
    }
    Ok(())
}

#[test]
fn recomputing_changes_no_bit() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    let kept = two_steps(&config, 3)?;
    config.optim.recompute = true;
    assert_eq!(kept, two_steps(&config, 3)?);
    Ok(())
}

#[test]
fn the_number_of_threads_changes_no_bit() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    // Wide enough for products to be divided between threads.
    (config.model.embed_dim, config.head.hidden_dim, config.head.out_dim) = (48, 256, 3000);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| two_steps(&config, 6))
    };
    let one = on(1)?;
    for threads in [2, 3] {
        assert!(one == on(threads)?, "{threads} threads");
    }
    Ok(())
}

#[test]
fn every_ablation_trains() -> Result<(), Error> {
    let cases: [(&str, Change); 11] = [
        ("lambda 0", |c| c.patch_loss.lambda = 0.),
        ("mean", |c| c.patch_loss.aggregation = Aggregation::Mean),
        ("none", |c| c.patch_loss.aggregation = Aggregation::None),
        ("no matching", |c| c.patch_loss.matching = false),
        ("clipped, k above a corner's neighbours", |c| {
            c.patch_loss.border = Border::Clipped;
            c.patch_loss.k_num = 6;
        }),
        ("window 5 on global crops only", |c| {
            c.patch_loss.window = 5;
            c.crops.local_count = 0;
        }),
        ("depth 3", |c| c.patch_loss.aggregation_depth = 3),
        ("batch norm", |c| c.head.use_bn_in_head = true),
        ("one layer", |c| c.head.layers = 1),
        ("sgd", |c| c.optim.optimizer = Algorithm::Sgd),
        ("lars", |c| c.optim.optimizer = Algorithm::Lars),
    ];
    for (name, change) in cases {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = tiny(folder.path());
        change(&mut config);
        config.optim.max_steps = Some(2);
        let losses = go(&config, false)?;
        assert!(losses.len() == 2 && losses.iter().all(|l| l.is_finite()), "{name}: {losses:?}");
    }
    Ok(())
}

#[test]
fn a_run_leaves_what_is_needed_and_resumes_bit_for_bit() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = tiny(folder.path());
    let straight = go(&whole, false)?;
    assert_eq!(straight.len(), 8);
    let root = &whole.output_dir;
    for file in ["config.toml", "log.jsonl", "report.html", "export/backbone.safetensors", "tb"] {
        assert!(root.join(file).exists(), "{file}");
    }
    assert_eq!(std::fs::read_to_string(root.join("log.jsonl")).expect("a log").lines().count(), 8);

    // Stopped after 5 of 8 steps, in the middle of the second epoch, then continued.
    let mut parts = whole.clone();
    parts.output_dir = folder.path().join("parts");
    parts.optim.max_steps = Some(5);
    let first = go(&parts, false)?;
    parts.optim.max_steps = None;
    let second = go(&parts, false)?;
    assert_eq!([first, second].concat(), straight);
    let last = |root: &Path| root.join("checkpoints/step-000008");
    for file in ["student", "teacher", "optimizer", "centers"] {
        let file = format!("{file}.safetensors");
        assert_eq!(tensors(&last(root).join(&file)), tensors(&last(&parts.output_dir).join(&file)), "{file}");
    }
    assert!(go(&parts, false)?.is_empty(), "a complete run has nothing left to do");
    Ok(())
}

#[test]
fn a_damaged_checkpoint_is_passed_over() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = tiny(folder.path());
    let straight = go(&config, false)?;
    let newest = config.output_dir.join("checkpoints/step-000008");
    let file = newest.join("student.safetensors");
    let mut bytes = std::fs::read(&file).expect("a checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let mut warnings = Vec::new();
    let mut losses = Vec::new();
    run(&config, &session(false), &Device::Cpu, &mut unasked, |event| match event {
        Event::Warning(w) => warnings.push(w),
        Event::Step(r) => losses.push(r.number("train_loss")),
        _ => {}
    })?;
    assert!(warnings.len() == 1 && warnings[0].contains("step-000008"), "{warnings:?}");
    assert_eq!(losses, straight[4..]); // the checkpoint of the first epoch is whole

    for step in ["step-000004", "step-000008"] {
        std::fs::write(config.output_dir.join("checkpoints").join(step).join("state.json"), "{").expect("written");
    }
    let error = go(&config, false).expect_err("all are damaged").to_string();
    assert!(error.contains("no checkpoint can be used"), "{error}");
    Ok(())
}

#[test]
fn another_configuration_in_the_same_folder_is_refused() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    config.optim.max_steps = Some(1);
    go(&config, false)?;
    config.patch_loss.lambda = 0.5;
    let error = go(&config, false).expect_err("other settings").to_string();
    assert!(error.contains("patch_loss.lambda: 0.1 -> 0.5") && error.contains("--overwrite"), "{error}");
    assert_eq!(go(&config, true)?.len(), 1);
    Ok(())
}

#[test]
fn a_run_without_a_checkpoint_gives_way_and_overwrite_keeps_what_is_not_its_own() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    config.optim.max_steps = Some(1);
    go(&config, false)?;
    let other = config.output_dir.join("thesis.txt");
    std::fs::write(&other, "mine").expect("written");
    go(&config, true)?;
    assert!(other.exists());
    // As a first session leaves it that failed before its first checkpoint.
    std::fs::remove_dir_all(config.output_dir.join("checkpoints")).expect("removed");
    assert!(go(&config, false).expect_err("a backbone").to_string().contains("trained backbone"));
    std::fs::remove_dir_all(config.output_dir.join("export")).expect("removed");
    config.patch_loss.lambda = 0.5;
    assert_eq!(go(&config, false)?.len(), 1);
    Ok(())
}

#[test]
fn a_gradient_that_is_non_finite_stops_before_the_weights() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    config.optim.freeze_last_layer = 1;
    let mut trainer = Trainer::new(Settings::of(&config)?, DType::F32, &Device::Cpu)?;
    let value = |t: &Trainer| -> Result<Vec<f32>, Error> {
        Ok(t.student_params.get("ca_head.norm.weight").expect("a weight").to_vec1()?)
    };
    let before = value(&trainer)?;
    let bad = trainer.student_params.get("backbone.pos_embed").expect("the positions");
    let mut grads = backward(&trainer.student_params.get("ca_head.norm.weight").expect("a weight").sum_all()?)?;
    grads.set(&bad, (bad.as_tensor() * f64::NAN)?);
    match trainer.update(&mut grads, &HYPER) {
        Err(Error::NonFiniteGradient { parameter }) => assert_eq!(parameter, "backbone.pos_embed"),
        other => panic!("{other:?}"),
    }
    assert_eq!(value(&trainer)?, before);
    assert!(trainer.optimizer.steps()?.is_empty());
    Ok(())
}

#[test]
fn nothing_is_written_when_the_data_is_bad() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    for (path, expected) in [(folder.path().join("absent"), "absent"), (folder.path().to_path_buf(), "no images")] {
        config.data.path = path.to_string_lossy().into_owned();
        let error = go(&config, false).expect_err("no images").to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!config.output_dir.exists());
    }
    config.data.path = "procedural".into();
    config.optim.batch_size = 17;
    assert!(go(&config, false).is_err() && !config.output_dir.exists());
}
