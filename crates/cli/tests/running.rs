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
    for (signal, steps) in [("TERM", 2), ("USR1", 6), ("INT", 11), ("HUP", 14)] {
        if is_ignored(signal)? {
            continue;
        }
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
fn a_limit_on_the_size_of_files_ends_a_run_like_a_full_disk() -> Outcome {
    let folder = tempfile::tempdir()?;
    let first = command(folder.path(), &train(&["--max-steps=10"])).output()?;
    assert!(first.status.success(), "{}", said(&first));
    let checkpoints = folder.path().join("runs/default/checkpoints");
    // Room for the log, not for a checkpoint; in units of 512 bytes.
    let limit = fs::metadata(checkpoints.join("step-000010/optimizer.safetensors"))?.len() / 1024;
    let program = command(folder.path(), &train(&[]));
    // Python, for one, starts programs with the signal ignored.
    for ignored in ["", "trap '' XFSZ; "] {
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("{ignored}ulimit -f {limit}; exec \"$@\""), "sh"]).arg(program.get_program());
        let output = limited.args(program.get_args()).current_dir(folder.path()).output()?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let line = error.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(line.starts_with("error: runs/default/") && line.contains(": File too large"), "{error}");
        assert!(line.contains("(`ulimit -f`): raise it") && !error.contains("panicked"), "{error}");
        assert_eq!(line.matches("runs/default").count(), 1, "{error}");
    }
    // What was saved before is still there, and nothing half-written.
    let kept: Vec<_> = fs::read_dir(&checkpoints)?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    assert_eq!(kept, ["step-000010"]);
    let again = command(folder.path(), &train(&[])).output()?;
    assert!(again.status.success() && said(&again).contains("continuing after step 10"), "{}", said(&again));
    Ok(())
}

/// Whether these tests were started with `signal` ignored, so that what they start ignores it too.
fn is_ignored(signal: &str) -> Result<bool, Box<dyn std::error::Error>> {
    let number = match signal {
        "HUP" => 1,
        "INT" => 2,
        "USR1" => 10,
        _ => 15,
    };
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(false) };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
    Ok(u64::from_str_radix(mask.trim(), 16)? >> (number - 1) & 1 == 1)
}

/// As under `nohup`, and in the background of a shell without job control.
#[test]
fn signals_that_were_ignored_at_the_start_stay_so() -> Outcome {
    let folder = tempfile::tempdir()?;
    let program = env!("CARGO_BIN_EXE_selfpatch");
    let script = format!("trap '' HUP INT USR1; exec {program} {}", train(&[]).join(" "));
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", &script]).current_dir(folder.path());
    let mut child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (run, start) = (folder.path().join("runs/default"), Instant::now());
    while curve(&run).len() < 2 && start.elapsed() < Duration::from_secs(60) && child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    for signal in ["HUP", "INT", "INT", "USR1", "HUP"] {
        Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).stderr(Stdio::null()).status()?;
    }
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(curve(&run).len(), 20);
    Ok(())
}

/// The terminal is closed: SIGHUP, and every write to it fails.
#[test]
fn a_terminal_that_is_gone_ends_in_a_checkpoint() -> Outcome {
    let python = std::env::var("SELFPATCH_PYTHON").unwrap_or("python3".into());
    let folder = tempfile::tempdir()?;
    let script = "
import fcntl, os, pty, signal, sys, termios, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)
pid, terminal = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
os.set_blocking(terminal, False)
start = time.time()
while time.time() < start + 60:
    try: os.read(terminal, 4096)
    except BlockingIOError: pass
    except OSError: break
    try:
        if len(open('runs/default/log.jsonl').readlines()) > 2: break
    except FileNotFoundError: pass
    time.sleep(0.001)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))";
    let args = train(&["--set", "data.procedural_images=4000"]);
    let mut terminal = Command::new(&python);
    terminal.args(["-c", script, env!("CARGO_BIN_EXE_selfpatch")]).args(args).current_dir(folder.path());
    let Ok(output) = terminal.output() else {
        eprintln!("skipped: there is no {python}");
        return Ok(());
    };
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    let run = folder.path().join("runs/default");
    let done = curve(&run).len();
    assert!(done > 2 && run.join(format!("checkpoints/step-{done:06}/state.json")).exists(), "{done}");
    Ok(())
}

/// What is not a training ends at once, by the signal, and leaves no file half written.
#[test]
fn a_signal_ends_an_evaluation_and_leaves_nothing_half_written() -> Outcome {
    use std::os::unix::process::ExitStatusExt;
    let folder = tempfile::tempdir()?;
    let trained = command(folder.path(), &train(&["--max-steps", "1"])).output()?;
    assert!(trained.status.success(), "{}", said(&trained));
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        if is_ignored(signal)? {
            continue;
        }
        let results = folder.path().join(signal);
        let args = ["eval-davis", "--run", "runs/default", "--output-dir", signal];
        let mut child = command(folder.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let start = Instant::now();
        let begun = || fs::read_dir(results.join("masks")).is_ok_and(|entries| entries.count() > 1);
        while !begun() && start.elapsed() < Duration::from_secs(60) && child.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status()?;
        let output = child.wait_with_output()?;
        // A fast machine may have been done.
        assert!(output.status.success() || output.status.signal() == Some(number), "{signal}: {}", said(&output));
        let mut folders = vec![results];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                let name = path.to_string_lossy().into_owned();
                assert!(!name.contains(".partial-") && !name.ends_with(".tmp"), "{name}");
                if path.is_dir() {
                    folders.push(path);
                } else if name.ends_with(".png") {
                    image::open(&path)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_run_that_falls_ill_says_where_and_the_step_can_be_repeated() -> Outcome {
    let folder = tempfile::tempdir()?;
    // Pixels beyond single precision.
    let planted = ["--set=data.mean=[1e6,1e6,1e6]", "--set=data.std=[1e-36,1e-36,1e-36]"];
    let ill = command(folder.path(), &train(&planted)).output()?;
    let text = said(&ill);
    assert_eq!(ill.status.code(), Some(1), "{text}");
    assert!(text.contains("non-finite") && text.contains("first seen in") && !text.contains("panicked"), "{text}");
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
    args.extend(["--set", "objective.center_momentum=1"]);
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
