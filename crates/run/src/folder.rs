//! The folder of a run: whose it is, and where in the run a session begins.

use crate::checkpoint::{self, Found};
use crate::compare::{Now, compare};
use crate::history::{self, History};
use crate::inventory::{self, Inventory};
use crate::session::{Resume, Session};
use crate::{Error, Settings, place, replace_file};
use selfpatch_datasets::ImageSource;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Files and folders that a run keeps in its folder.
const ENTRIES: [&str; 13] = [
    "config.toml",
    history::FILE,
    inventory::FILE,
    "log.jsonl",
    "faults.jsonl",
    "alarms.jsonl",
    "report.html",
    "tb",
    "views",
    "replay",
    "features",
    "checkpoints",
    "export",
];

/// A folder that this process alone writes to.
pub(crate) struct Folder<S> {
    /// Where the session begins; `None` for the beginning.
    pub found: Option<Found<S>>,
    /// Whether the session begins at a checkpoint of another run.
    pub branches: bool,
    /// The images of the run as they are now; `None` for procedural ones.
    pub inventory: Option<Inventory>,
    path: PathBuf,
    history: History,
    /// Whether what an earlier run left is to be removed.
    clears: bool,
    /// Whether the folder was made for this session.
    made: bool,
    /// Lock on the folder, held until the session ends.
    _lock: File,
}

impl<S: Settings> Folder<S> {
    /// Keeps what this session begins with: what an earlier run left in the folder is removed if the session overwrites
    /// it or if it has no checkpoint; then come images, history and settings. Until then the run is as it was.
    pub fn begin(&mut self, settings: &S, source: &dyn ImageSource) -> Result<(), Error> {
        // A run that never came to a checkpoint has nothing to lose or to continue.
        if self.clears {
            remove_run(&self.path)?;
        }
        if let Some(inventory) = &mut self.inventory {
            inventory.learn(source);
            inventory.write(&self.path)?;
        }
        self.history.write(&self.path)?;
        // Last: whoever finds it finds the others, too.
        let file = self.path.join("config.toml");
        replace_file(&file, settings.to_toml()?.as_bytes()).map_err(Error::io(&file))
    }

    /// Removes the folder again if it was made for this session, which has not begun.
    pub fn leave(&self) {
        if self.made {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Finds where in the run the session begins, or says why this run cannot use its folder.
///
/// Settings that differ from those of the checkpoint and matter are refused unless `overrides` names them. Nothing of
/// an earlier run is changed before [`Folder::begin`].
pub(crate) fn open<S: Settings>(
    settings: &S,
    source: &dyn ImageSource,
    session: &Session,
    tell: &mut dyn FnMut(String),
) -> Result<Folder<S>, Error> {
    let (overwrite, resume) = (session.overwrite, &session.resume);
    let common = settings.common();
    let folder = common.folder;
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
        S::parse(&file, &fs::read_to_string(&file).map_err(Error::io(&file))?)?;
    }
    let own_history = History::read::<S>(folder)?;
    sweep(&folder.join("checkpoints"));
    sweep(&folder.join("export"));
    let own = checkpoint::list(folder)?;
    let is_own = |found: &Found<S>| own.iter().any(|(_, path)| same(path, &found.path));
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
            if own.iter().any(|(step, _)| *step > found.step) {
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
        // Stopped before its first checkpoint, a branch still begins where it branched off.
        (None, Resume::Auto) if is_run && own.is_empty() && own_history.branched_from.is_some() => {
            own_history.branched_from.as_deref().map(|from| chosen(from, tell)).transpose()?
        }
        (None, _) => checkpoint::newest(folder, &mut *tell)?,
    };
    let mut inventory = (common.data != place::PROCEDURAL).then(|| Inventory::of(source));
    let mut history = History { working_dir: std::env::current_dir().unwrap_or_default(), ..own_history };
    let branches = found.as_ref().is_some_and(|found| !is_own(found));
    if let Some(found) = &found {
        history.branched_from = if branches { fs::canonicalize(&found.path).ok() } else { history.branched_from };
        let now = Now { settings, source, inventory: &mut inventory };
        if let Err(e) = compare(now, found, &mut history, session, tell) {
            if made {
                let _ = fs::remove_dir_all(folder);
            }
            return Err(e);
        }
    } else {
        if !session.overrides.is_empty() {
            if made {
                let _ = fs::remove_dir_all(folder);
            }
            let reason =
                format!("{} has no checkpoint to go on from, so nothing can differ; leave it out", folder.display());
            return Err(Error::Config { field: "--override".into(), reason });
        }
        (history.branched_from, history.overrides) = Default::default();
    }
    let unfinished = found.is_none() && is_run;
    // The backbone is written after the first checkpoint: someone has removed the checkpoints.
    if unfinished && !overwrite && folder.join("export").exists() {
        let reason = "holds a trained backbone but no checkpoint to go on from; choose another --name, or start over \
                      with --overwrite";
        return fail(reason.into());
    }
    let clears = overwrite || unfinished;
    Ok(Folder { found, branches, inventory, path: folder.into(), history, clears, made, _lock: lock })
}

/// Whether there is anything in a folder that a start which was cut short does not leave.
fn holds_something(folder: &Path) -> Result<bool, Error> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(Error::io(folder))?,
    };
    let ours = |name: &str| {
        name == "lock" || ["config.toml.", history::FILE, inventory::FILE].iter().any(|f| name.starts_with(f))
    };
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
fn chosen<S: Settings>(path: &Path, tell: &mut dyn FnMut(String)) -> Result<Found<S>, Error> {
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
