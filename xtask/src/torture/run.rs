//! A small training as a process of its own, and its loss curve.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Steps of an epoch, and epochs.
const EPOCHS: (usize, usize) = (30, 4);

/// All steps of the training.
pub const STEPS: usize = EPOCHS.0 * EPOCHS.1;

/// Where the program is, where to work, and what an undisturbed run gives.
pub struct Bench {
    program: PathBuf,
    /// A folder of our own.
    pub work: PathBuf,
    /// Losses by step, as the log has them.
    pub curve: BTreeMap<usize, String>,
}

impl Bench {
    /// Trains once without disturbance.
    pub fn new(work: PathBuf) -> Result<Self, String> {
        let mut bench =
            Self { program: crate::ended::target()?.join("release/selfpatch"), work, curve: BTreeMap::new() };
        fs::create_dir_all(&bench.work).map_err(|e| format!("{}: {e}", bench.work.display()))?;
        let straight = bench.work.join("straight");
        let output = bench.train(&straight, &[]).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(format!("an undisturbed run fails: {}", said(&output)));
        }
        bench.curve = curve(&straight)?;
        if bench.curve.len() != STEPS {
            return Err(format!("an undisturbed run logs {} of {STEPS} steps", bench.curve.len()));
        }
        Ok(bench)
    }

    /// The training in `folder`: seconds long, saving all the time.
    pub fn train(&self, folder: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("train").arg("--output-dir").arg(folder);
        let epochs = EPOCHS.1.to_string();
        let images = format!("data.procedural_images={}", EPOCHS.0 * 4);
        command.args(["--batch-size", "4", "--epochs", &epochs, "--num-workers", "1", "--threads", "1"]);
        command.args(["--out-dim", "64", "--out-dim-selfpatch", "48"]);
        for set in [
            images.as_str(),
            "data.procedural_size=64",
            "model.embed_dim=12",
            "model.depth=2",
            "head.hidden_dim=16",
            "head.bottleneck_dim=8",
            "checkpoint.every_minutes=0.0000001",
        ] {
            command.args(["--set", set]);
        }
        command.args(more).stdin(Stdio::null());
        command
    }

    /// Steps of a run in `folder` whose loss is not that of the undisturbed run.
    pub fn mismatches(&self, folder: &Path) -> Result<Vec<usize>, String> {
        let curve = curve(folder)?;
        Ok(curve.iter().filter(|(step, loss)| self.curve.get(step) != Some(loss)).map(|(step, _)| *step).collect())
    }

    /// Lets a run in `folder` come to its end, and compares all of it. Returns what it said.
    pub fn finish(&self, folder: &Path) -> Result<String, String> {
        let output = self.train(folder, &[]).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(format!("the run does not continue: {}", said(&output)));
        }
        let wrong = self.mismatches(folder)?;
        let steps = curve(folder)?.len();
        match wrong.is_empty() && steps == STEPS {
            true => Ok(said(&output)),
            false => Err(format!("{steps} steps are logged, {STEPS} expected; losses differ at {wrong:?}")),
        }
    }
}

/// The losses in the log of a run, by step, as text. A torn last line is passed over.
pub fn curve(folder: &Path) -> Result<BTreeMap<usize, String>, String> {
    let path = folder.join("log.jsonl");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
        Some(rest.split([',', '}']).next()?.to_string())
    };
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with("}\n"));
    whole
        .map(|line| {
            let step = field(line, "step").and_then(|s| s.parse().ok());
            step.zip(field(line, "train_loss")).ok_or(format!("{}: {line}", path.display()))
        })
        .collect()
}

/// Whether a checkpoint is half written.
pub fn is_saving(folder: &Path) -> bool {
    let entries = fs::read_dir(folder.join("checkpoints")).into_iter().flatten().flatten();
    entries.into_iter().any(|e| e.file_name().to_string_lossy().ends_with(".tmp"))
}

/// Both outputs of a process on one line.
pub fn said(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr].map(|o| String::from_utf8_lossy(o).trim().replace('\n', " | "));
    both.join(" | ")
}

/// Waits until `condition` holds or the process ends; false if it never held in 60 s.
pub fn wait(child: &mut Child, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if condition() {
            return true;
        }
        if !matches!(child.try_wait(), Ok(None)) {
            return condition();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// A folder that is made anew.
pub fn emptied(path: PathBuf) -> Result<PathBuf, String> {
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}
