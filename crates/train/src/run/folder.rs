//! The folder of a run: whose it is, and where in the run a session begins.

use crate::checkpoint::{self, Found};
use crate::telemetry::replace_file;
use crate::{Config, Error};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Which checkpoint a session goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// The newest whole one of the run, if there is any.
    #[default]
    Auto,
    /// None: a run that has one is left alone.
    Never,
    /// This one, or the newest of this run; the run that goes on may be another.
    From(PathBuf),
}

/// What a run keeps in its folder.
const ENTRIES: [&str; 10] = [
    "config.toml",
    "log.jsonl",
    "faults.jsonl",
    "alarms.jsonl",
    "report.html",
    "tb",
    "views",
    "replay",
    "checkpoints",
    "export",
];

/// A folder that this process alone writes to.
pub(super) struct Folder {
    /// Where the session begins; `None` for the beginning.
    pub found: Option<Found>,
    /// Held until the session ends.
    _lock: File,
}

/// Makes the run's folder ready, or says why this run cannot use it.
///
/// What an earlier run left there is removed if `overwrite` says so or if it has no checkpoint; nothing else
/// is. Settings that differ from those of the checkpoint and matter are refused unless `overrides` names them.
pub(super) fn open(
    config: &Config,
    images: usize,
    (overwrite, resume, overrides): (bool, &Resume, &[String]),
    tell: &mut dyn FnMut(String),
) -> Result<Folder, Error> {
    let folder = config.output_dir.as_path();
    let file = folder.join("config.toml");
    let fail = |reason: String| Err(Error::File { path: folder.into(), reason });
    // Bad answers come before the folder is touched.
    let other = match resume {
        Resume::From(path) => Some(chosen(path, tell)?),
        _ => None,
    };
    if !file.exists() && holds_something(folder)? {
        return fail("is not empty and holds no run; choose another --output-dir".into());
    }
    let made = !folder.exists();
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let lock = locked(folder)?;
    let is_run = file.exists();
    if is_run {
        // A folder of something else may have a file of that name.
        Config::parse(&file, &fs::read_to_string(&file).map_err(Error::io(&file))?)?;
    }
    sweep(&folder.join("checkpoints"));
    sweep(&folder.join("export"));
    let own = checkpoint::list(folder)?;
    let is_own = |found: &Found| own.iter().any(|(_, path)| same(path, &found.path));
    let found = match (other, resume) {
        (Some(found), _) if overwrite && is_own(&found) => {
            return fail("--overwrite would remove the checkpoint that --resume names".into());
        }
        (Some(found), _) if overwrite || own.is_empty() => Some(found),
        (Some(found), _) if !is_own(&found) => {
            // The same command again, after it was told to stop.
            tell(format!("goes on from its own newest checkpoint, not from {}", found.path.display()));
            checkpoint::newest(folder, &mut *tell)?
        }
        (Some(found), _) => {
            if own.iter().any(|(step, _)| *step > found.state.step) {
                return fail(format!(
                    "has checkpoints beyond {}; continue from that one in another folder (--name, --output-dir)",
                    found.path.display()
                ));
            }
            Some(found)
        }
        (None, Resume::Never) if !overwrite && !own.is_empty() => {
            return fail("holds a run; choose another --name, or start over with --overwrite".into());
        }
        (None, _) if overwrite => None,
        (None, _) => checkpoint::newest(folder, &mut *tell)?,
    };
    if let Some(found) = &found
        && let Err(e) = compare(config, images, found, overrides, tell)
    {
        if made {
            let _ = fs::remove_dir_all(folder);
        }
        return Err(e);
    }
    let unfinished = found.is_none() && is_run;
    // The backbone is written after the first checkpoint: someone has removed the checkpoints.
    if unfinished && !overwrite && folder.join("export").exists() {
        let reason = "holds a trained backbone but no checkpoint to go on from; choose another --name, or start over \
                      with --overwrite";
        return fail(reason.into());
    }
    // A run that never came to a checkpoint has nothing to lose or to continue.
    if overwrite || unfinished {
        remove_run(folder)?;
    }
    replace_file(&file, config.to_toml()?.as_bytes()).map_err(Error::io(&file))?;
    Ok(Folder { found, _lock: lock })
}

/// Whether there is anything in a folder that a start which was cut short does not leave.
fn holds_something(folder: &Path) -> Result<bool, Error> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(Error::io(folder))?,
    };
    let ours = |name: &str| name == "lock" || name.starts_with("config.toml.");
    Ok(entries.flatten().any(|entry| !ours(&entry.file_name().to_string_lossy())))
}

/// Removes what a session that was killed left half written, and puts back what it had put aside.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let aside = name.strip_prefix('.').and_then(|n| n.strip_suffix(".old")).map(|n| folder.join(n));
        if let Some(place) = aside.filter(|place| !place.exists()) {
            let _ = fs::rename(entry.path(), place);
        } else if name.starts_with('.') {
            // What cannot be removed is in nobody's way but the disk's.
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
}

/// The checkpoint at `path`, or the newest of the run there.
fn chosen(path: &Path, tell: &mut dyn FnMut(String)) -> Result<Found, Error> {
    if path.join("state.json").exists() {
        return checkpoint::usable(path);
    }
    let reason = "is neither a checkpoint nor a run that has one (--resume)".into();
    checkpoint::newest(path, tell)?.ok_or(Error::File { path: path.into(), reason })
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Refuses two processes in one folder.
fn locked(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let file = File::options().create(true).append(true).open(&path).map_err(Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::File {
            path: folder.into(),
            reason: "another process trains in this folder; wait for it, or choose another --name".into(),
        }),
        // Some network file systems have no locks.
        Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Settings that changed since the checkpoint: those that change neither the result nor the meaning of what is
/// saved pass, and so does a longer run, whose schedules stretch.
fn compare(
    config: &Config,
    images: usize,
    found: &Found,
    overrides: &[String],
    tell: &mut dyn FnMut(String),
) -> Result<(), Error> {
    let mut saved = found.config.clone();
    saved.name = config.name.clone();
    saved.output_dir = config.output_dir.clone();
    saved.init_from = config.init_from.clone();
    saved.data.workers = config.data.workers;
    saved.data.prefetch = config.data.prefetch;
    saved.data.max_bad = config.data.max_bad;
    saved.checkpoint = config.checkpoint.clone();
    saved.eval = config.eval.clone();
    saved.health = config.health.clone();
    saved.optim.max_steps = config.optim.max_steps;
    saved.optim.recompute = config.optim.recompute;
    let epochs = (saved.optim.epochs, config.optim.epochs);
    if epochs.1 > epochs.0 {
        tell(format!("{} epochs instead of {}: all schedules stretch over the longer run", epochs.1, epochs.0));
        saved.optim.epochs = epochs.1;
    }
    let place = |difference: &str| difference.split(':').next().unwrap_or_default().to_string();
    let mut differences = saved.differences(config)?;
    if found.state.images != images && !differences.iter().any(|d| place(d) == "data.path") {
        differences.push(format!("data.path: {} images -> {images} images", found.state.images));
    }
    let (allowed, refused): (Vec<_>, Vec<_>) = differences.into_iter().partition(|d| overrides.contains(&place(d)));
    if !refused.is_empty() {
        return Err(Error::OtherRun { path: found.path.clone(), differences: refused.join(", ") });
    }
    for difference in allowed {
        tell(format!("changed as --override says: {difference}"));
    }
    Ok(())
}

fn remove_run(folder: &Path) -> Result<(), Error> {
    // The configuration goes last: a removal that is cut short still leaves a recognisable run.
    for path in ENTRIES.iter().rev().map(|name| folder.join(name)) {
        match path.is_dir() {
            true => fs::remove_dir_all(&path).map_err(Error::io(&path))?,
            false if path.exists() => fs::remove_file(&path).map_err(Error::io(&path))?,
            false => {}
        }
    }
    Ok(())
}
