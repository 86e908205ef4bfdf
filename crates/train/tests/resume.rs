//! Sessions of one run: stopped, continued, changed, extended, damaged.

mod common;

use common::{go, go_on, session, tiny};
use selfpatch_run::{End, Event, Resume, Session};
use selfpatch_train::candle_core::Device;
use selfpatch_train::{Config, Error, run};
use selfpatch_vit::Vit;
use selfpatch_weights::read;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn checkpoint(config: &Config, step: usize) -> PathBuf {
    config.output_dir.join(format!("checkpoints/step-{step:06}"))
}

/// Trains until `steps` steps are done in all, as a signal does.
fn go_until(config: &Config, steps: u64) -> Result<Vec<f64>, Error> {
    let stop = AtomicBool::new(false);
    let mut losses = Vec::new();
    let session = Session { overwrite: false, resume: Resume::Auto, overrides: &[], asked: &[], stop: &stop };
    let summary = run(config, &session, &Device::Cpu, &mut common::unasked, |event| {
        if let Event::Step(record) = event {
            losses.push(record.number("train_loss"));
            stop.store(record.step >= steps, Ordering::Relaxed);
        }
    })?;
    assert_eq!(summary.end, End::Stopped(steps as usize));
    Ok(losses)
}

#[test]
fn a_run_that_is_told_to_stop_saves_after_the_step_and_goes_on_bit_for_bit() -> Outcome {
    let folder = tempfile::tempdir()?;
    let whole = tiny(folder.path());
    let straight = go(&whole, false)?;
    let mut parts = whole.clone();
    parts.output_dir = folder.path().join("parts");
    let mut losses = Vec::new();
    for steps in [1, 3, 4, 7] {
        losses.extend(go_until(&parts, steps)?);
        assert!(checkpoint(&parts, steps as usize).exists());
        parts.data.workers = 1 + steps as usize % 2; // the number of threads changes nothing
    }
    losses.extend(go(&parts, false)?);
    assert_eq!(losses, straight);
    for file in ["student", "teacher", "optimizer", "centers"] {
        let read = |c: &Config| fs::read(checkpoint(c, 8).join(format!("{file}.safetensors")));
        assert_eq!(read(&whole)?, read(&parts)?, "{file}");
    }
    Ok(())
}

#[test]
fn checkpoints_come_by_time_and_milestones_stay() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut config = tiny(folder.path());
    config.checkpoint.every_minutes = 1e-9;
    config.checkpoint.keep = 2;
    config.checkpoint.milestone_epochs = 1;
    go(&config, false)?;
    let mut found: Vec<String> = fs::read_dir(config.output_dir.join("checkpoints"))?
        .map(|e| Ok(e?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, std::io::Error>>()?;
    found.sort();
    assert_eq!(found, ["step-000004", "step-000006", "step-000007", "step-000008"]);
    Ok(())
}

#[test]
fn a_save_behind_damaged_later_ones_is_kept() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut config = tiny(folder.path());
    (config.checkpoint.every_minutes, config.checkpoint.milestone_epochs, config.checkpoint.keep) = (1e-9, 1, 2);
    go(&config, false)?;
    for step in [6, 7, 8] {
        fs::write(checkpoint(&config, step).join("state.json"), "{")?;
    }
    go_until(&config, 5)?;
    assert!(checkpoint(&config, 5).exists());
    assert_eq!(go(&config, false)?.len(), 3);
    Ok(())
}

#[test]
fn every_damaged_block_of_a_checkpoint_is_noticed() -> Outcome {
    let folder = tempfile::tempdir()?;
    let config = tiny(folder.path());
    let straight = go(&config, false)?;
    let newest = checkpoint(&config, 8);
    let mut blocks = 0;
    for entry in fs::read_dir(&newest)? {
        let path = entry?.path();
        let whole = fs::read(&path)?;
        for place in (0..whole.len()).step_by(4096) {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            fs::write(&path, bytes)?;
            let session = Session { resume: Resume::From(newest.clone()), ..session(false) };
            let error = go_on(&config, &session).expect_err("damaged");
            assert!(matches!(error, Error::File { .. }), "{}: {error}", path.display());
            blocks += 1;
        }
        fs::write(&path, &whole[..whole.len() / 2])?;
        assert_eq!(go(&config, false)?, straight[4..], "{}: cut short, the older one is used", path.display());
        // The repeated steps have written it anew.
        assert_eq!(fs::read(&path)?, whole);
    }
    assert!(blocks > 20, "{blocks}");
    Ok(())
}

#[test]
fn what_resume_names_is_used_or_refused() -> Outcome {
    let folder = tempfile::tempdir()?;
    let config = tiny(folder.path());
    let straight = go(&config, false)?;
    let refusal =
        |c: &Config, resume: Resume| go_on(c, &Session { resume, ..session(false) }).expect_err("refused").to_string();
    let error = refusal(&config, Resume::Never);
    assert!(error.contains("holds a run"), "{error}");
    let error = refusal(&config, Resume::From(checkpoint(&config, 4)));
    assert!(error.contains("in another folder"), "{error}");
    let error = refusal(&config, Resume::From(folder.path().join("absent")));
    assert!(error.contains("absent"), "{error}");

    // Another folder goes on from the older checkpoint.
    let mut branch = config.clone();
    (branch.name, branch.output_dir) = ("branch".into(), folder.path().join("branch"));
    let from = Resume::From(checkpoint(&config, 4));
    assert_eq!(go_on(&branch, &Session { resume: from, ..session(false) })?, straight[4..]);
    // The same command again continues the branch itself, which has nothing left to do.
    let from = Resume::From(checkpoint(&config, 4));
    assert!(go_on(&branch, &Session { resume: from, ..session(false) })?.is_empty());
    // From the run as a whole it has nothing left to do, and still gets its backbone.
    branch.output_dir = folder.path().join("branch2");
    let from = Resume::From(config.output_dir.clone());
    assert!(go_on(&branch, &Session { resume: from, ..session(false) })?.is_empty());
    assert!(branch.output_dir.join("export/backbone.safetensors").exists());
    Ok(())
}

#[test]
fn what_a_killed_session_left_is_cleared_and_a_short_start_is_no_stranger() -> Outcome {
    let folder = tempfile::tempdir()?;
    let config = tiny(folder.path());
    fs::create_dir_all(&config.output_dir)?;
    fs::write(config.output_dir.join("lock"), "")?;
    fs::write(config.output_dir.join("config.toml.77.tmp"), "half")?;
    let straight = go(&config, false)?;
    let checkpoints = config.output_dir.join("checkpoints");
    fs::create_dir_all(checkpoints.join(".step-000007.tmp"))?;
    // Killed between putting the old one aside and putting the new one in its place.
    fs::rename(checkpoint(&config, 8), checkpoints.join(".step-000008.old"))?;
    assert!(go(&config, false)?.is_empty());
    assert!(checkpoint(&config, 8).exists() && !checkpoints.join(".step-000007.tmp").exists());
    fs::remove_dir_all(checkpoint(&config, 8))?;
    assert_eq!(go(&config, false)?, straight[4..]);
    Ok(())
}

#[test]
fn data_that_has_changed_is_refused_unless_it_is_named() -> Outcome {
    let folder = tempfile::tempdir()?;
    let photos = folder.path().join("photos");
    fs::create_dir(&photos)?;
    let save = |i: usize| {
        image::RgbImage::from_pixel(40, 40, image::Rgb([i as u8 * 9; 3])).save(photos.join(format!("{i}.png")))
    };
    (0..16).try_for_each(save)?;
    let mut config = tiny(folder.path());
    config.data.path = photos.to_string_lossy().into_owned();
    go_until(&config, 5)?;
    save(16)?;
    let error = go(&config, false).expect_err("one more").to_string();
    assert!(error.contains("data.path: 16 images -> 17 images"), "{error}");
    let named = ["data.path".to_string()];
    assert_eq!(go_on(&config, &Session { overrides: &named, ..session(false) })?.len(), 3);
    Ok(())
}

#[test]
fn nothing_is_lost_when_overwrite_cannot_go_on() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut config = tiny(folder.path());
    go(&config, false)?;
    let mut other = config.clone();
    other.output_dir = folder.path().join("other");
    go(&other, false)?;
    config.init_from = "absent.safetensors".into();
    assert!(go(&config, true).is_err());
    config.init_from = String::new();
    config.optim.lr = 1e-3;
    let from = Resume::From(other.output_dir.clone());
    assert!(go_on(&config, &Session { resume: from, ..session(true) }).is_err());
    assert!(checkpoint(&config, 8).exists());
    // Its own weights may be what it begins anew with.
    config.init_from = config.output_dir.to_string_lossy().into_owned();
    assert_eq!(go(&config, true)?.len(), 8);
    Ok(())
}

#[test]
fn changed_settings_are_listed_and_pass_when_they_are_named() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut config = tiny(folder.path());
    go_until(&config, 3)?;
    (config.optim.lr, config.patch_loss.lambda) = (1e-3, 0.3);
    let error = go(&config, false).expect_err("changed").to_string();
    assert!(
        error.contains("optim.lr") && error.contains("patch_loss.lambda") && error.contains("--override"),
        "{error}"
    );
    let named = ["optim.lr".to_string()];
    let error = go_on(&config, &Session { overrides: &named, ..session(false) }).expect_err("one is left").to_string();
    assert!(!error.contains("optim.lr:") && error.contains("patch_loss.lambda"), "{error}");
    let named = ["optim.lr".to_string(), "patch_loss.lambda".to_string()];
    assert_eq!(go_on(&config, &Session { overrides: &named, ..session(false) })?.len(), 5);
    Ok(())
}

#[test]
fn a_checkpoint_that_cannot_be_restored_leaves_the_settings_as_they_were() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut config = tiny(folder.path());
    go_until(&config, 3)?;
    // Whole by its digests, but with a step count of a parameter that there is not.
    let state = checkpoint(&config, 3).join("state.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&state)?)?;
    value["optimizer_steps"] = serde_json::json!({});
    let text = value.to_string();
    fs::write(&state, &text)?;
    fs::write(checkpoint(&config, 3).join("state.b3"), blake3::hash(text.as_bytes()).to_hex().as_str())?;
    let files = ["config.toml", "resume.json"].map(|name| config.output_dir.join(name));
    let before = files.each_ref().map(fs::read).map(Result::ok);
    config.optim.lr = 1e-3;
    let named = ["optim.lr".to_string()];
    assert!(go_on(&config, &Session { overrides: &named, ..session(false) }).is_err());
    assert!(before == files.each_ref().map(fs::read).map(Result::ok));
    Ok(())
}

#[test]
fn a_finished_run_can_be_made_longer_but_not_shorter() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut config = tiny(folder.path());
    go(&config, false)?;
    config.optim.epochs = 3;
    let mut warnings = Vec::new();
    let mut steps = 0;
    run(&config, &session(false), &Device::Cpu, &mut common::unasked, |event| match event {
        Event::Warning(text) => warnings.push(text),
        Event::Step(_) => steps += 1,
        _ => {}
    })?;
    assert_eq!(steps, 4);
    assert!(warnings.iter().any(|w| w.contains("3 epochs instead of 2")), "{warnings:?}");
    config.optim.epochs = 1;
    assert!(go(&config, false).expect_err("shorter").to_string().contains("optim.epochs"));
    Ok(())
}

#[test]
fn an_export_states_what_its_tensors_do_not_tell() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut config = tiny(folder.path());
    (config.data.mean, config.data.std) = (vec![0.5, 0.25, 0.125], vec![0.25; 3]);
    config.optim.max_steps = Some(1);
    go(&config, false)?;
    let metadata = |name: &str| Ok::<_, Error>(read(&config.output_dir.join(name), &Device::Cpu)?.metadata);
    let export = metadata("export/backbone.safetensors")?;
    for (key, value) in [
        ("num_heads", "3"),
        ("patch_size", "8"),
        ("image_size", "48"),
        ("channels", "3"),
        ("mean", "[0.5,0.25,0.125]"),
        ("std", "[0.25,0.25,0.25]"),
        ("program", concat!("selfpatch ", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(export.get(key).map(String::as_str), Some(value), "{key}");
    }
    let date = export.get("date").ok_or("no date")?;
    assert!(date.len() == 20 && date.starts_with("20") && date.ends_with('Z'), "{date}");
    assert!(!export.contains_key("range")); // bytes
    let teacher = metadata("checkpoints/step-000001/teacher.safetensors")?;
    assert_eq!(teacher.get("mean"), export.get("mean"));
    assert!(!teacher.contains_key("date")); // equal runs have equal checkpoints
    // A reader has it all.
    let vit = Vit::load(&config.output_dir.join("export/backbone.safetensors"), None, 0, &Device::Cpu)?;
    assert_eq!(vit.stated().std, Some(vec![0.25; 3]));
    // A run that begins with it, or with the whole checkpoint, and shows images otherwise says so.
    let mut other = config.clone();
    other.output_dir = folder.path().join("other");
    for from in ["export/backbone.safetensors", ""] {
        let from = config.output_dir.join(from);
        for (mean, warns) in [(vec![0.5, 0.25, 0.125], 0), (vec![0.5; 3], 1)] {
            (other.data.mean, other.init_from) = (mean, from.to_string_lossy().into_owned());
            let mut warnings = Vec::new();
            run(&other, &session(true), &Device::Cpu, &mut common::unasked, |event| {
                if let Event::Warning(text) = event
                    && text.contains("trained on images")
                {
                    warnings.push(text.to_string());
                }
            })?;
            assert_eq!(warnings.len(), warns, "{warnings:?}");
            assert!(warnings.iter().all(|w| w.contains("mean 0.5, 0.25, 0.125") && w.contains("mean 0.5, 0.5, 0.5")));
        }
    }
    Ok(())
}

#[test]
fn a_run_from_before_the_choice_of_a_feed_forward_part_goes_on() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut config = tiny(folder.path());
    config.optim.max_steps = Some(4);
    let first = go(&config, false)?;
    // As it was saved then, in the folder and in the checkpoint, whose digests are those of such a file.
    let text = config.to_toml()?.replace("mlp_ratio = 4\n", "");
    assert!(!text.contains("mlp_ratio"));
    let checkpoint = checkpoint(&config, 4);
    for file in [config.output_dir.join("config.toml"), checkpoint.join("config.toml")] {
        fs::write(file, &text)?;
    }
    let state = checkpoint.join("state.json");
    let mut known: serde_json::Value = serde_json::from_slice(&fs::read(&state)?)?;
    known["files"]["config.toml"] = blake3::hash(text.as_bytes()).to_hex().as_str().into();
    let known = serde_json::to_string_pretty(&known)?;
    fs::write(checkpoint.join("state.b3"), blake3::hash(known.as_bytes()).to_hex().as_bytes())?;
    fs::write(state, known)?;
    config.optim.max_steps = None;
    assert_eq!((first.len(), go(&config, false)?.len()), (4, 4));
    Ok(())
}

#[test]
fn two_processes_do_not_share_a_folder() -> Outcome {
    let folder = tempfile::tempdir()?;
    let config = tiny(folder.path());
    fs::create_dir_all(&config.output_dir)?;
    let lock = fs::File::create(config.output_dir.join("lock"))?;
    fs::write(config.output_dir.join("config.toml"), config.to_toml()?)?;
    lock.lock()?;
    let error = go(&config, false).expect_err("locked").to_string();
    assert!(error.contains("another process"), "{error}");
    drop(lock);
    assert_eq!(go(&config, false)?.len(), 8);
    Ok(())
}
