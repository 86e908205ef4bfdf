//! The folder of a run: whose it is, and where in the run a session begins.

use super::history::{self, History, Overridden, run_of, working_dir};
use super::{Asked, Session, shapes};
use crate::checkpoint::{self, Found};
use crate::inventory::{self, Changes, Inventory};
use crate::overlay::{Difference, SHAPE, names, stripped};
use crate::telemetry::replace_file;
use crate::{Config, Error, place};
use selfpatch_datasets::{ImageSource, same_files};
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
const ENTRIES: [&str; 12] = [
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
    "checkpoints",
    "export",
];

/// A folder that this process alone writes to.
pub(super) struct Folder {
    /// Where the session begins; `None` for the beginning.
    pub found: Option<Found>,
    /// Whether the session begins at a checkpoint of another run.
    pub branches: bool,
    /// The images of the run as they are now; `None` for those that are made.
    pub inventory: Option<Inventory>,
    path: PathBuf,
    history: History,
    /// Whether what an earlier run left is to be removed.
    clears: bool,
    /// Whether there was no such folder before.
    made: bool,
    /// Held until the session ends.
    _lock: File,
}

impl Folder {
    /// Keeps what this session begins with: what an earlier run left there is removed if the session overwrites it or
    /// if it has no checkpoint; then come images, history and settings. Until then the run is as it was.
    pub fn begin(&mut self, config: &Config, source: &dyn ImageSource) -> Result<(), Error> {
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
        replace_file(&file, config.to_toml()?.as_bytes()).map_err(Error::io(&file))
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
pub(super) fn open(
    config: &Config,
    source: &dyn ImageSource,
    session: &Session,
    tell: &mut dyn FnMut(String),
) -> Result<Folder, Error> {
    let (overwrite, resume) = (session.overwrite, &session.resume);
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
    let own_history = History::read(folder)?;
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
        // Stopped before its first checkpoint, a branch still begins where it branched off.
        (None, Resume::Auto) if is_run && own.is_empty() && own_history.branched_from.is_some() => {
            own_history.branched_from.as_deref().map(|from| chosen(from, tell)).transpose()?
        }
        (None, _) => checkpoint::newest(folder, &mut *tell)?,
    };
    let mut inventory = (config.data.path != place::PROCEDURAL).then(|| Inventory::of(source));
    let mut history = History { working_dir: std::env::current_dir().unwrap_or_default(), ..own_history };
    let branches = found.as_ref().is_some_and(|found| !is_own(found));
    if let Some(found) = &found {
        history.branched_from = if branches { fs::canonicalize(&found.path).ok() } else { history.branched_from };
        let now = Now { config, source, inventory: &mut inventory };
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

/// What a session would go on with.
struct Now<'a> {
    config: &'a Config,
    source: &'a dyn ImageSource,
    inventory: &'a mut Option<Inventory>,
}

/// Settings and images that changed since the checkpoint: settings that change neither the result nor the meaning of
/// what is saved pass, and so does a longer run, whose schedules stretch. What was overridden before passes again;
/// what is overridden now is added to `history`.
fn compare(
    Now { config, source, inventory }: Now,
    found: &Found,
    history: &mut History,
    session: &Session,
    tell: &mut dyn FnMut(String),
) -> Result<(), Error> {
    let folder = config.output_dir.as_path();
    let of = run_of(&found.path);
    let its_history = of.as_deref().map(History::read).transpose()?.unwrap_or_default();
    let base = of.as_deref().map(|run| working_dir(run, &found.config, &its_history)).unwrap_or_default();
    let here = Path::new("");
    let mut saved = found.config.clone();
    let was = place::from_base(&saved.data.path, &base);
    let is_same_place =
        place::place(&was, here) == place::place(&config.data.path, here) || same_files(&was, &config.data.path);
    if is_same_place {
        saved.data.path = config.data.path.clone();
    }
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
        remember(history, "optim.epochs", epochs.0.to_string(), epochs.1.to_string());
    }
    let is_named = |place: &str| session.overrides.iter().any(|name| names(name, place));
    let before = match Inventory::read(folder)? {
        None => of.as_deref().map(Inventory::read).transpose()?.flatten(),
        own => own,
    };
    if let (false, false, Some(now), Some(before)) = (is_same_place, is_named("data.path"), &mut *inventory, &before) {
        let changes = Changes::between(before, now, source, false);
        if changes.told().is_none() && changes.compared > 0 {
            let (count, read) = (source.len(), changes.compared);
            let how = match read < count {
                true => format!("names and sizes, and bytes of the {read} that were read"),
                false => "names and bytes".into(),
            };
            let path = &config.data.path;
            tell(format!("data.path: {path} has the same {count} images as {was}: {how}"));
            let text = |path: &str| toml::Value::String(path.into()).to_string();
            remember(history, "data.path", text(&saved.data.path), text(path));
            saved.data.path = path.clone();
        }
    }
    let mut refused: Vec<(String, String)> = Vec::new();
    let mut shaped: Vec<String> = Vec::new();
    let differences = saved.differences(config)?;
    let is_other_arch = differences.iter().any(|d| d.place == "model.arch");
    for Difference { place, from, to } in differences {
        // The architecture says them.
        if is_other_arch && place.strip_prefix("model.").is_some_and(|field| SHAPE.contains(&field)) {
            continue;
        }
        let fixed = shapes::fixes(&place, &from, &to);
        if fixed && (is_named(&place) || history.overrides.get(&place).is_none_or(|known| known.to != to)) {
            shaped.push(spelled(session.asked, &place, &from, &to));
        } else if is_named(&place) {
            tell(format!("changed as --override says: {place}: {from} -> {to}"));
            remember(history, &place, from, to);
        } else if history.overrides.get(&place).is_none_or(|known| known.to != to) {
            refused.push((stripped(&place), spelled(session.asked, &place, &from, &to)));
        }
    }
    if is_same_place && let Some(now) = inventory {
        let changes = before.map(|before| Changes::between(&before, now, source, true));
        if changes.is_none() {
            let reason = "no list of its images was kept; their number alone is compared with before";
            tell(format!("{}: {reason}", found.path.display()));
        }
        if let Some(unread) = changes.as_ref().map(|c| c.unread).filter(|n| *n > 0) {
            tell(format!(
                "data.path: {unread} images have another time than before and are compared when training reads them"
            ));
        }
        let told = match changes {
            Some(changes) => changes.told(),
            None => other_number(found.state.images, source.len()),
        };
        match told {
            Some(told) if is_named("data.path") => tell(format!("changed as --override says: data.path: {told}")),
            Some(told) => refused.push(("data.path".into(), format!("data.path: {told}"))),
            None => {}
        }
    } else if is_same_place
        && refused.is_empty()
        && let Some(told) = other_number(found.state.images, source.len())
        && !is_named("data.path")
    {
        refused.push(("data.path".into(), format!("data.path: {told}")));
    }
    let path = of.unwrap_or_else(|| found.path.clone());
    if !shaped.is_empty() {
        shaped.dedup();
        return Err(Error::OtherShape { path, differences: shaped.join(", ") });
    }
    if refused.is_empty() {
        return Ok(());
    }
    refused.dedup_by(|a, b| a.1 == b.1);
    let mut flags: Vec<String> = refused.iter().map(|(place, _)| format!("--override {place}")).collect();
    flags.dedup();
    Err(Error::OtherRun {
        path,
        differences: refused.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", "),
        overrides: flags.join(" "),
    })
}

fn other_number(before: usize, now: usize) -> Option<String> {
    (before != now).then(|| format!("{before} images -> {now} images"))
}

/// Keeps that a field was changed, since its first value.
fn remember(history: &mut History, place: &str, from: String, to: String) {
    let first = history.overrides.remove(place).map_or(from, |known| known.from);
    if first != to {
        history.overrides.insert(place.into(), Overridden { from: first, to });
    }
}

/// A difference as its user would write it: with the flag where there was one.
fn spelled(asked: &[Asked], place: &str, from: &str, to: &str) -> String {
    match asked.iter().rev().find(|asked| names(&asked.field, place)) {
        Some(Asked { flag, value, .. }) => format!("{flag} {value} ({} -> {value})", from.trim_matches('"')),
        None => format!("{place}: {from} -> {to}"),
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
