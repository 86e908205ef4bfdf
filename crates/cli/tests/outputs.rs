//! What becomes of the program where standard output or error is full, closed or not for writing.
#![cfg(unix)]

mod common;

use common::{command, err, out, said};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Exit code of a command whose output could not be written.
const UNWRITTEN: i32 = 74;
/// Exit code of a command whose reader has left.
const UNREAD: i32 = 141;

/// 8 steps of a small network.
const TRAIN: [&str; 14] = [
    "train",
    "--set",
    "data.procedural_images=32",
    "--set",
    "model.embed_dim=12",
    "--set",
    "model.depth=1",
    "--set",
    "head.hidden_dim=16",
    "--out-dim=32",
    "--out-dim-selfpatch=16",
    "--batch-size=4",
    "--name=a",
    "--saveckp-freq=1",
];

/// A place to write to that takes nothing, and what a write to it is answered with.
fn dead(kind: &str) -> io::Result<Stdio> {
    match kind {
        "full" => Ok(File::options().write(true).open("/dev/full")?.into()),
        // The reader has left before the program begins.
        "closed" => Ok(io::pipe()?.1.into()),
        // Open, but for reading.
        _ => Ok(File::open("/dev/null")?.into()),
    }
}

/// The outcome with dead standard output, standard error, or both.
fn with(folder: &Path, args: &[&str], kind: &str, which: &str) -> Result<Output, Box<dyn std::error::Error>> {
    let mut command = command(folder, args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if which != "stderr" {
        command.stdout(dead(kind)?);
    }
    if which != "stdout" {
        command.stderr(dead(kind)?);
    }
    Ok(command.spawn()?.wait_with_output()?)
}

/// The arguments of a call.
type Line = Vec<&'static str>;

/// A folder with a trained run `runs/a`, images and masks; and commands that read them.
fn prepared() -> Result<(tempfile::TempDir, Vec<Line>), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let trained = command(folder.path(), &TRAIN).output()?;
    assert!(trained.status.success(), "{}", said(&trained));
    for split in ["train", "val"] {
        for class in 0..2u8 {
            let place = folder.path().join(split).join(class.to_string());
            fs::create_dir_all(&place)?;
            for i in 0..4u8 {
                image::RgbImage::from_pixel(24, 24, image::Rgb([90 * class, 20 * i, 7]))
                    .save(place.join(format!("{i}.png")))?;
            }
        }
    }
    let masks = folder.path().join("masks/one");
    fs::create_dir_all(&masks)?;
    for i in 0..4 {
        image::GrayImage::from_fn(16, 16, |x, _| image::Luma([u8::from(x > 7)]))
            .save(masks.join(format!("{i}.png")))?;
    }
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../optim/tests/fixtures");
    let commands = vec![
        vec!["--help"],
        vec!["--version"],
        vec!["help", "eval-davis"],
        vec!["train", "--print-config"],
        vec!["train", "--help"],
        vec!["watch", "--once"],
        vec!["watch", "runs/a"],
        vec!["inspect-data", "--data", "train"],
        vec!["inspect-data", "--data", "train", "--json"],
        vec!["eval-knn", "--train", "train", "--val", "val", "--k", "2"],
        vec!["eval-knn", "--train", "train", "--val", "val", "--k", "2", "--json"],
        vec!["davis-metrics", "--annotations", "masks", "--results", "masks"],
        vec!["davis-metrics", "--annotations", "masks", "--results", "masks", "--json", "--output-dir", "scores"],
        vec!["parity", "--fixtures", fixtures, "--only", "schedules"],
        vec!["parity", "--fixtures", fixtures, "--only", "schedules", "--json"],
    ];
    Ok((folder, commands))
}

/// The lines of standard output without that of the date.
fn undated(output: &Output) -> Vec<String> {
    let is_date = |line: &str| line.starts_with("date: ") || line.trim_start().starts_with("\"date\": ");
    out(output).lines().filter(|line| !is_date(line)).map(str::to_string).collect()
}

#[test]
fn a_command_whose_output_is_lost_ends_in_words_with_a_code() -> Outcome {
    let (folder, commands) = prepared()?;
    for args in &commands {
        let usual = command(folder.path(), args).output()?;
        assert!(usual.status.success() && !usual.stdout.is_empty(), "{args:?}: {}", said(&usual));
        for (kind, code) in [("full", UNWRITTEN), ("closed", UNREAD), ("for reading", UNWRITTEN)] {
            // What the argument parser prints goes through the standard library, which takes such a stream for fine.
            if kind == "for reading" && args.iter().any(|a| ["--help", "--version", "help"].contains(a)) {
                continue;
            }
            let output = with(folder.path(), args, kind, "stdout")?;
            let text = err(&output);
            assert_eq!(output.status.code(), Some(code), "{args:?}, {kind}: {text}");
            assert!(!text.contains("panicked"), "{args:?}, {kind}: {text}");
            assert_eq!(
                text.contains("error: standard output could not be written"),
                code == UNWRITTEN,
                "{args:?}: {text}"
            );
            assert_eq!(with(folder.path(), args, kind, "both")?.status.code(), Some(code), "{args:?}, {kind}");
            let output = with(folder.path(), args, kind, "stderr")?;
            // Some tell times, which differ; a date differs where a minute ends in between.
            let same = args[0] == "inspect-data" || undated(&output) == undated(&usual);
            assert!(output.status.success() && same, "{args:?}, {kind}: {}", out(&output));
        }
    }
    assert!(folder.path().join("scores/scores.json").is_file(), "files are written all the same");
    Ok(())
}

#[test]
fn an_evaluation_whose_output_is_lost_writes_its_files_and_ends_in_words() -> Outcome {
    let (folder, _) = prepared()?;
    for (kind, code, args) in [
        ("full", UNWRITTEN, ["eval-davis", "--run=runs/a", "--output-dir=o", "--json"]),
        ("closed", UNREAD, ["eval-davis", "--run=runs/a", "--output-dir=p", "--json"]),
    ] {
        let output = with(folder.path(), &args, kind, "stdout")?;
        let text = err(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    assert!(folder.path().join("o/scores.json").is_file() && folder.path().join("p/scores.json").is_file());
    Ok(())
}

#[test]
fn an_error_keeps_its_code_where_it_cannot_be_told() -> Outcome {
    let folder = tempfile::tempdir()?;
    for (args, code) in [
        (&["eval-davis"][..], 1),
        (&["train", "--window", "4"], 1),
        (&["watch"], 1),
        (&["replay", "none"], 1),
        (&["train", "--no-such-flag"], 2),
        (&[], 2),
    ] {
        for kind in ["full", "closed", "for reading"] {
            for which in ["stderr", "both"] {
                let output = with(folder.path(), args, kind, which)?;
                assert_eq!(output.status.code(), Some(code), "{args:?}, {kind}, {which}");
            }
        }
    }
    Ok(())
}

#[test]
fn training_goes_on_without_anybody_to_read() -> Outcome {
    let folder = tempfile::tempdir()?;
    let straight = command(folder.path(), &TRAIN).output()?;
    assert!(straight.status.success(), "{}", said(&straight));
    let losses = |run: &Path| -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let text = fs::read_to_string(run.join("log.jsonl"))?;
        let values = text.lines().map(serde_json::from_str::<serde_json::Value>).collect::<Result<Vec<_>, _>>()?;
        Ok(values.iter().map(|v| v["train_loss"].to_string()).collect())
    };
    let want = losses(&folder.path().join("runs/a"))?;
    assert_eq!(want.len(), 8);
    for kind in ["full", "closed", "for reading"] {
        for which in ["stdout", "stderr", "both"] {
            let name = format!("{kind}-{which}");
            let args = [&TRAIN[..], &["--name", &name]].concat();
            let args: Vec<&str> = args.into_iter().filter(|a| *a != "--name=a").collect();
            let output = with(folder.path(), &args, kind, which)?;
            assert_eq!(output.status.code(), Some(0), "{name}: {}", err(&output));
            let run = folder.path().join("runs").join(&name);
            assert_eq!(losses(&run)?, want, "{name}");
            assert!(run.join("checkpoints/step-000008/state.json").is_file(), "{name}");
            assert!(run.join("export/backbone.safetensors").is_file() && run.join("report.html").is_file(), "{name}");
            if which == "stdout" {
                let text = err(&output);
                assert_eq!(text.matches("training goes on").count(), 1, "{name}: {text}");
                assert!(!text.contains("panicked"), "{name}: {text}");
            }
        }
    }
    Ok(())
}

/// As after `| head -1`.
#[test]
fn training_goes_on_when_its_reader_leaves_after_a_line() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (mut reader, writer) = io::pipe()?;
    let mut child = command(folder.path(), &TRAIN).stdout(writer).stderr(Stdio::piped()).spawn()?;
    let mut first = [0u8; 16];
    reader.read_exact(&mut first)?;
    drop(reader);
    let status = child.wait()?;
    assert_eq!(status.code(), Some(0));
    assert!(folder.path().join("runs/a/checkpoints/step-000008/state.json").is_file());
    Ok(())
}

/// A reader who is only slow, on a pipe that somebody has set not to wait, gets everything.
#[test]
fn a_pipe_that_does_not_wait_loses_nothing() -> Outcome {
    let python = std::env::var("SELFPATCH_PYTHON").unwrap_or("python3".into());
    let folder = tempfile::tempdir()?;
    let script = "
import os, subprocess, sys, time
r, w = os.pipe()
os.set_blocking(w, False)
os.write(w, b'x' * 65536) # full
child = subprocess.Popen(sys.argv[1:], stdout=w)
os.close(w)
time.sleep(0.3)
text = b''
while part := os.read(r, 4096): text += part
sys.stdout.buffer.write(text[65536:])
sys.exit(child.wait())";
    let Ok(output) = Command::new(&python)
        .args(["-c", script, env!("CARGO_BIN_EXE_selfpatch"), "train", "--print-config"])
        .current_dir(folder.path())
        .output()
    else {
        eprintln!("skipped: there is no {python}");
        return Ok(());
    };
    let usual = command(folder.path(), &["train", "--print-config"]).output()?;
    assert!(output.status.success() && out(&output) == out(&usual), "{}", said(&output));
    Ok(())
}

/// `println!` and its like panic where a write fails: only `crates/output` writes to the standard streams.
#[test]
fn programs_print_through_one_module() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["crates/cli/src", "xtask/src", "benches/src", "fuzz/src", "crates/output/src"] {
        sources(&root.join(folder), &mut files)?;
    }
    assert!(files.len() > 50, "{}", files.len());
    for path in files {
        let text = fs::read_to_string(&path)?;
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            let forbidden = ["print!(", "println!(", "dbg!("].iter().any(|name| code.contains(name));
            assert!(
                !forbidden || code.starts_with("//"),
                "{}:{}: use say! or note!, which do not panic where a write fails: {code}",
                path.display(),
                number + 1
            );
        }
    }
    Ok(())
}

/// All Rust files below `folder`.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
