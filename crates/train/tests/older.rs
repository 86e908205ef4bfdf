//! A run that version 0.1 began before the machinery of runs became a crate of its own (commit 144c3c2): 4 of its 8 steps
//! are saved in `older-run`, and its log has all 8.

mod common;

use common::{go, session};
use selfpatch_run::{Event, SavedRun, Session, log};
use selfpatch_train::candle_core::Device;
use selfpatch_train::config::ImageObjective;
use selfpatch_train::{Config, run};
use std::fs;
use std::path::Path;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

#[test]
fn it_goes_on_as_it_would_have() -> Outcome {
    let older = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/older-run");
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("old");
    copy(&older, &run)?;
    let config = SavedRun::<Config>::of(&run)?.expect("settings of a run").settings;
    let losses = go(&config, false)?;
    let all = log::read(&older)?;
    let truth: Vec<f64> = all[4..].iter().map(|r| r.number("train_loss")).collect();
    // Products of matrices round in another way on another CPU.
    let is_close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-4 * b.abs();
    assert!(losses.len() == 4 && losses.iter().zip(&truth).all(is_close), "{losses:?}, before {truth:?}");
    let (now, names) = (log::read(&run)?, ["train_lr", "momentum", "train_wd", "epoch"]);
    assert_eq!(now[..4], all[..4]);
    for name in names {
        let of = |records: &[selfpatch_run::Record]| records.iter().map(|r| r.get(name)).collect::<Vec<_>>();
        assert_eq!(of(&now), of(&all), "{name}");
    }
    Ok(())
}

/// A field that has another place now, overridden before and after it was renamed.
#[test]
fn what_was_overridden_under_an_old_name_stays_overridden() -> Outcome {
    let folder = tempfile::tempdir()?;
    let old = folder.path().join("old");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/older-run"), &old)?;
    // The run was begun with 0.03 and continued with 0.05.
    let config = old.join("config.toml");
    fs::write(&config, fs::read_to_string(&config)?.replace("\nteacher_temp = 0.03", "\nteacher_temp = 0.05"))?;
    let known = r#"{"overrides": {"image_loss.teacher_temp": {"from": "0.03", "to": "0.05"}}}"#;
    fs::write(old.join("resume.json"), known)?;
    let config = SavedRun::<Config>::of(&old)?.expect("settings of a run").settings;
    let ImageObjective::Dino(dino) = &config.objective;
    assert_eq!((dino.teacher_temp, dino.warmup_teacher_temp), (0.05, 0.03));
    let config =
        Config { optim: selfpatch_train::config::Optim { max_steps: Some(5), ..config.optim.clone() }, ..config };
    go(&config, false)?;

    let mut other = config.clone();
    let ImageObjective::Dino(dino) = &mut other.objective;
    dino.teacher_temp = 0.06;
    other.optim.max_steps = Some(6);
    let refused = go(&other, false).map_or_else(|e| e.to_string(), |_| String::new());
    assert!(refused.contains("objective.teacher_temp: 0.05 -> 0.06"), "{refused}");
    let overrides = ["image_loss.teacher_temp".to_string()];
    let mut told = Vec::new();
    run(&other, &Session { overrides: &overrides, ..session(false) }, &Device::Cpu, &mut common::unasked, |event| {
        if let Event::Warning(text) = event {
            told.push(text);
        }
    })?;
    let expected = "--override image_loss.teacher_temp: its place is objective.teacher_temp now";
    assert!(told.iter().any(|text| text == expected), "{told:?}");
    let history = fs::read_to_string(old.join("resume.json"))?;
    assert!(history.contains("\"objective.teacher_temp\"") && history.contains("\"0.06\""), "{history}");
    assert!(!history.contains("image_loss"), "{history}");
    Ok(())
}
