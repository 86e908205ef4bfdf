//! A run as its user lives with it: stopped by a signal, continued, ill, repeated; its numbers in TensorBoard.
#![cfg(unix)]

mod common;

use common::{command, said};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// 20 steps of a small network.
fn train(more: &[&'static str]) -> Vec<&'static str> {
    let mut args = vec!["train", "--out_dim=32", "--out_dim_selfpatch=16", "--batch_size=4", "--epochs=2"];
    for set in ["data.procedural_images=40", "model.embed_dim=12", "model.depth=2", "head.hidden_dim=16"] {
        args.extend(["--set", set]);
    }
    args.extend(more);
    args
}

/// Step and loss of each line of a log.
fn curve(run: &Path) -> Vec<(u64, String)> {
    let text = fs::read_to_string(run.join("log.jsonl")).unwrap_or_default();
    let values = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    values.filter_map(|v| Some((v["step"].as_u64()?, v["train_loss"].to_string()))).collect()
}

#[test]
fn a_signal_saves_and_ends_with_its_code_and_the_same_command_continues() -> Outcome {
    let folder = tempfile::tempdir()?;
    let straight = command(folder.path(), &train(&["--name", "straight"])).output()?;
    assert!(straight.status.success(), "{}", said(&straight));
    let want = curve(&folder.path().join("runs/straight"));
    assert_eq!(want.len(), 20);
    let run = folder.path().join("runs/default");
    for (signal, steps) in [("TERM", 2), ("USR1", 6), ("INT", 11)] {
        let mut child = command(folder.path(), &train(&[])).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let start = Instant::now();
        while curve(&run).len() < steps && start.elapsed() < Duration::from_secs(60) && child.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status()?;
        let output = child.wait_with_output()?;
        // A machine that is slow to send the signal may find the run complete.
        if output.status.success() {
            break;
        }
        assert_eq!(output.status.code(), Some(75), "{signal}: {}", said(&output));
        let done = curve(&run).len();
        assert!(said(&output).contains(&format!("stopped and saved after step {done}")), "{}", said(&output));
        assert!(run.join(format!("checkpoints/step-{done:06}/state.json")).exists());
    }
    let output = command(folder.path(), &train(&[])).output()?;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(curve(&run), want);
    // Nothing is written outside of the runs.
    let beside: Vec<_> = fs::read_dir(folder.path())?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    assert_eq!(beside, ["runs"]);
    Ok(())
}

#[test]
fn a_run_that_falls_ill_says_where_and_the_step_can_be_repeated() -> Outcome {
    let folder = tempfile::tempdir()?;
    let ill = command(folder.path(), &train(&["--lr", "1e30", "--warmup-epochs", "0"])).output()?;
    let text = said(&ill);
    assert_eq!(ill.status.code(), Some(1), "{text}");
    assert!(text.contains("not finite") && text.contains("first seen in") && !text.contains("panicked"), "{text}");
    let replay = fs::read_dir(folder.path().join("runs/default/replay"))?.next().ok_or("no replay file")??.path();
    let again = command(folder.path(), &["replay", &replay.to_string_lossy()]).output()?;
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("first seen in"), "{}", said(&again));
    let none = command(folder.path(), &["replay", "runs/default/export/backbone.safetensors"]).output()?;
    assert_eq!(none.status.code(), Some(1), "{}", said(&none));
    Ok(())
}

#[test]
fn a_run_begins_with_weights_and_goes_on_from_a_checkpoint_that_flags_name() -> Outcome {
    let folder = tempfile::tempdir()?;
    let run = |more: &[&'static str]| command(folder.path(), &train(more)).output();
    let first = run(&["--max-steps", "6"])?;
    assert!(first.status.success(), "{}", said(&first));
    let backbone = "runs/default/export/backbone.safetensors";
    let told = run(&["--name", "b", "--init-from", backbone, "--max-steps", "1"])?;
    assert!(told.status.success() && said(&told).contains("both backbones begin as"), "{}", said(&told));
    let told = run(&["--name", "c", "--resume", "runs/default/checkpoints/step-000006"])?;
    assert!(told.status.success() && said(&told).contains("continuing after step 6"), "{}", said(&told));
    let told = run(&["--resume", "never"])?;
    assert!(told.status.code() == Some(1) && said(&told).contains("holds a run"), "{}", said(&told));
    let told = run(&["--lambda", "0.3"])?;
    assert!(told.status.code() == Some(1) && said(&told).contains("--override FIELD"), "{}", said(&told));
    let told = run(&["--lambda", "0.3", "--override", "patch_loss.lambda"])?;
    assert!(told.status.success() && said(&told).contains("as --override says"), "{}", said(&told));
    Ok(())
}

#[test]
fn a_planted_collapse_is_told_within_twenty_steps() -> Outcome {
    let folder = tempfile::tempdir()?;
    let planted = ["--warmup-teacher-temp", "1", "--teacher-temp", "1", "--lambda", "0"];
    let mut args = train(&planted);
    args.extend(["--set", "image_loss.center_momentum=1"]);
    let output = command(folder.path(), &args).output()?;
    let alarms = fs::read_to_string(folder.path().join("runs/default/alarms.jsonl"))?;
    let first: serde_json::Value = serde_json::from_str(alarms.lines().next().ok_or("no alarm")?)?;
    assert!(first["kind"] == "collapse" && first["step"].as_u64() <= Some(20), "{alarms}");
    assert!(said(&output).contains("ALARM (collapse)"), "{}", said(&output));
    Ok(())
}

/// With TensorBoard's own reader, where `SELFPATCH_PYTHON` (or `python3`) has it.
#[test]
fn tensorboard_reads_what_the_log_has() -> Outcome {
    let python = std::env::var("SELFPATCH_PYTHON").unwrap_or("python3".into());
    let has = |module: &str| {
        let status = Command::new(&python).args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
        status.is_ok_and(|s| s.success())
    };
    if !has("tensorboard") {
        eprintln!("skipped: {python} has no tensorboard");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    // In two sessions: the second one's file takes over.
    for steps in ["7", "20"] {
        let output = command(folder.path(), &train(&[])).args(["--max-steps", steps]).output()?;
        assert!(output.status.success(), "{}", said(&output));
    }
    let script = "
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0}); events.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()['scalars']}))";
    let output = Command::new(&python).args(["-c", script]).arg(folder.path().join("runs/default/tb")).output()?;
    let read: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let log = fs::read_to_string(folder.path().join("runs/default/log.jsonl"))?;
    let log: Vec<serde_json::Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for tag in [
        "train_loss",
        "train_lr",
        "teacher_entropy",
        "teacher_student_kl",
        "prototypes_used",
        "feature_std",
        "feature_rank",
        "patch_agreement",
        "grad_norm",
        "data_wait",
        "skipped",
    ] {
        let points = read[tag].as_array().ok_or(format!("no {tag}"))?;
        assert_eq!(points.len(), 20, "{tag}");
        for (point, line) in points.iter().zip(&log) {
            let (seen, written) = (point[1].as_f64().ok_or("no number")?, line[tag].as_f64().ok_or("no number")?);
            assert_eq!((&point[0], seen as f32), (&line["step"], written as f32), "{tag}");
        }
    }
    Ok(())
}
