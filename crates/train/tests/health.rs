//! Runs that fall ill, and what is said of them.

mod common;

use common::{go, session, tiny};
use selfpatch_run::Event;
use selfpatch_train::candle_core::{Device, Tensor};
use selfpatch_train::config::{Config, NonFinite};
use selfpatch_train::{Error, replay, run};
use selfpatch_weights::{read, write_safetensors};
use std::fs;
use std::path::Path;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A run that begins with a backbone in which `name` is multiplied with `factor`.
fn spoilt(folder: &Path, name: &str, factor: f64) -> Result<Config, Box<dyn std::error::Error>> {
    let mut config = tiny(folder);
    config.optim.max_steps = Some(1);
    go(&config, false)?;
    let export = config.output_dir.join("export/backbone.safetensors");
    let change = |(n, t): (String, Tensor)| {
        let t = if n == name { (t * factor)? } else { t };
        Ok::<_, selfpatch_train::candle_core::Error>((n, t))
    };
    let tensors = read(&export, &Device::Cpu)?.tensors.into_iter().map(change).collect::<Result<Vec<_>, _>>()?;
    let file = folder.join("spoilt.safetensors");
    write_safetensors(&file, &tensors, &[])?;
    config.optim.max_steps = None;
    config.output_dir = folder.join("ill");
    config.init_from = file.to_string_lossy().into_owned();
    Ok(config)
}

#[test]
fn a_value_that_is_non_finite_is_named_kept_and_stops_the_run() -> Outcome {
    for (name, factor, expected) in [
        ("blocks.1.mlp.fc1.weight", f64::NAN, "weights of the teacher, backbone.blocks.1.mlp.fc1.weight"),
        ("blocks.1.mlp.fc2.weight", 1e39, "weights of the teacher"),
        // Finite in itself; products of queries and keys are not.
        ("blocks.1.attn.qkv.weight", 1e25, "block 2 of the teacher, view 0 of "),
    ] {
        let folder = tempfile::tempdir()?;
        let config = spoilt(folder.path(), name, factor)?;
        let error = go(&config, false);
        let Err(Error::Sick { place, kept: Some(file), .. }) = &error else { panic!("{name}: {error:?}") };
        assert!(place.contains(expected), "{place}");
        assert!(error.as_ref().err().is_some_and(|e| e.to_string().contains("cargo xtask replay")));
        let again = replay(file, &Device::Cpu)?;
        let (_, place_again) = again.outcome.expect_err("non-finite again");
        assert_eq!(&place_again, place);
        assert_eq!((again.step, again.names.len()), (0, 4));
        // Saved as it was before the step, told in the list of alarms.
        assert!(config.output_dir.join("checkpoints/step-000000").exists());
        assert!(fs::read_to_string(config.output_dir.join("alarms.jsonl"))?.contains("not-finite"));
    }
    Ok(())
}

#[test]
fn steps_may_be_left_out_but_not_for_ever() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut config = spoilt(folder.path(), "blocks.0.norm1.weight", f64::NAN)?;
    (config.health.not_finite, config.health.most_skipped) = (NonFinite::Skip, 3);
    let mut steps = 0;
    let end = run(&config, &session(false), &Device::Cpu, &mut common::unasked, |event| {
        steps += usize::from(matches!(event, Event::Step(_)));
    });
    assert!(matches!(end, Err(Error::Sick { .. })));
    assert_eq!(steps, 3);
    let log = selfpatch_run::log::read(&config.output_dir)?;
    assert!(log.len() == 3 && log.iter().all(|r| r.number("train_loss").is_nan()));
    Ok(())
}

#[test]
fn a_rate_that_is_far_too_high_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = tiny(folder.path());
    config.optim.lr = 1e4;
    let error = go(&config, false).expect_err("refused").to_string();
    assert!(error.contains("optim.lr") && error.contains("limit of 1000"), "{error}");
    assert!(!config.output_dir.exists());
}
