//! Whether a session may go on from a checkpoint: what differs in settings and images.

use crate::checkpoint::Found;
use crate::fields::{Difference, differences, is_within, names, stripped};
use crate::history::{History, Overridden, run_of, working_dir};
use crate::inventory::{Changes, Inventory};
use crate::session::{Asked, Session};
use crate::{Error, Settings, place};
use selfpatch_datasets::{ImageSource, same_files};
use std::path::Path;

/// Place of the field that names the images that are trained on.
const DATA: &str = "data.path";

/// Settings and images that a session would go on with.
pub(crate) struct Now<'a, S> {
    pub settings: &'a S,
    pub source: &'a dyn ImageSource,
    /// The images as they are now; `None` for procedural ones.
    pub inventory: &'a mut Option<Inventory>,
}

/// Differences that stand in the way of going on.
#[derive(Default)]
struct Verdict {
    /// Fields that need `--override`, and what to say of them.
    refused: Vec<(String, String)>,
    /// Differences that no override helps against.
    shaped: Vec<String>,
}

/// Compares settings and images with those of the checkpoint: settings that change neither the result nor the meaning
/// of what is saved pass, and so does a longer run, whose schedules stretch. What was overridden before passes again;
/// what is overridden now is added to `history`.
pub(crate) fn compare<S: Settings>(
    now: Now<S>,
    found: &Found<S>,
    history: &mut History,
    session: &Session,
    tell: &mut dyn FnMut(String),
) -> Result<(), Error> {
    let Now { settings, source, inventory } = now;
    let of = run_of(&found.path);
    let mut changes = differences(&found.settings, settings)?;
    let is_free = |place: &str| S::FREE.iter().any(|name| is_within(place, name));
    changes.retain(|d| !is_free(&d.place) && d.place != "optim.max_steps");
    let epochs = (found.settings.common().epochs, settings.common().epochs);
    if epochs.1 > epochs.0 {
        tell(format!("{} epochs instead of {}: all schedules stretch over the longer run", epochs.1, epochs.0));
        changes.retain(|d| d.place != "optim.epochs");
        remember(history, "optim.epochs", epochs.0.to_string(), epochs.1.to_string());
    }
    let was = source_of(found, of.as_deref())?;
    let is_same_place = is_same(&was, settings.common().data);
    let before = match Inventory::read(settings.common().folder)? {
        None => of.as_deref().map(Inventory::read).transpose()?.flatten(),
        own => own,
    };
    if is_same_place {
        changes.retain(|d| d.place != DATA);
    } else if let (Some(now), Some(before)) = (&mut *inventory, &before)
        && !is_named(session, DATA)
        && let Some(how) = same_elsewhere(before, now, source)
    {
        let path = settings.common().data;
        tell(format!("{DATA}: {path} has the same {} images as {was}: {how}", source.len()));
        let text = |path: &str| toml::Value::String(path.into()).to_string();
        remember(history, DATA, text(found.settings.common().data), text(path));
        changes.retain(|d| d.place != DATA);
    }
    let mut verdict = Verdict::default();
    verdict.judge::<S>(changes, history, session, tell);
    if is_same_place {
        verdict.images(Images { source, inventory, before, found: &found.path, count: found.images }, session, tell);
    }
    verdict.spoken(of.as_deref().unwrap_or(&found.path))
}

/// Where the images of a checkpoint were, seen from this working directory.
fn source_of<S: Settings>(found: &Found<S>, of: Option<&Path>) -> Result<String, Error> {
    let history = of.map(History::read::<S>).transpose()?.unwrap_or_default();
    let common = found.settings.common();
    let base = of.map(|run| working_dir(run, common.folder, &history)).unwrap_or_default();
    Ok(place::from_base(common.data, &base))
}

fn is_same(was: &str, now: &str) -> bool {
    let here = Path::new("");
    place::place(was, here) == place::place(now, here) || same_files(was, now)
}

fn is_named(session: &Session, place: &str) -> bool {
    session.overrides.iter().any(|name| names(name, place))
}

/// How it was found out that images at another place are the same as before; `None` where they are not, or none of them
/// could be compared.
fn same_elsewhere(before: &Inventory, now: &mut Inventory, source: &dyn ImageSource) -> Option<String> {
    let changes = Changes::between(before, now, source, false);
    if changes.told().is_some() || changes.compared == 0 {
        return None;
    }
    Some(match changes.compared < source.len() {
        true => format!("names and sizes, and bytes of the {} that were read", changes.compared),
        false => "names and bytes".into(),
    })
}

/// The images of a run, at the place where they were before.
struct Images<'a> {
    source: &'a dyn ImageSource,
    inventory: &'a mut Option<Inventory>,
    before: Option<Inventory>,
    /// Folder of the checkpoint.
    found: &'a Path,
    /// Number of images before.
    count: usize,
}

impl Verdict {
    /// Judges each field that differs.
    fn judge<S: Settings>(
        &mut self,
        changes: Vec<Difference>,
        history: &mut History,
        session: &Session,
        tell: &mut dyn FnMut(String),
    ) {
        let places: Vec<String> = changes.iter().map(|d| d.place.clone()).collect();
        let is_explained = |place: &str| S::decided_by(place).is_some_and(|other| places.iter().any(|p| p == other));
        for Difference { place, from, to } in changes.into_iter().filter(|d| !is_explained(&d.place)) {
            let is_known = history.overrides.get(&place).is_some_and(|known| known.to == to);
            if S::decides_shapes(&place, &from, &to) && (is_named(session, &place) || !is_known) {
                self.shaped.push(spelled(session.asked, &place, &from, &to));
            } else if is_named(session, &place) {
                tell(format!("changed as --override says: {place}: {from} -> {to}"));
                remember(history, &place, from, to);
            } else if !is_known {
                self.refused.push((stripped(&place), spelled(session.asked, &place, &from, &to)));
            }
        }
    }

    /// Judges the images.
    fn images(&mut self, images: Images, session: &Session, tell: &mut dyn FnMut(String)) {
        let Images { source, inventory, before, found, count } = images;
        let Some(now) = inventory else {
            if self.refused.is_empty()
                && let Some(told) = other_number(count, source.len())
                && !is_named(session, DATA)
            {
                self.refused.push((DATA.into(), format!("{DATA}: {told}")));
            }
            return;
        };
        let changes = before.map(|before| Changes::between(&before, now, source, true));
        if changes.is_none() {
            let reason = "no list of its images was kept; their number alone is compared with before";
            tell(format!("{}: {reason}", found.display()));
        }
        if let Some(unread) = changes.as_ref().map(|c| c.unread).filter(|n| *n > 0) {
            tell(format!(
                "{DATA}: {unread} images have another time than before and are compared when training reads them"
            ));
        }
        let told = match changes {
            Some(changes) => changes.told(),
            None => other_number(count, source.len()),
        };
        match told {
            Some(told) if is_named(session, DATA) => tell(format!("changed as --override says: {DATA}: {told}")),
            Some(told) => self.refused.push((DATA.into(), format!("{DATA}: {told}"))),
            None => {}
        }
    }

    /// The verdict as an error, if anything is refused. `path`: the run, or the checkpoint where it lies in none.
    fn spoken(mut self, path: &Path) -> Result<(), Error> {
        if !self.shaped.is_empty() {
            self.shaped.dedup();
            return Err(Error::OtherShape { path: path.into(), differences: self.shaped.join(", ") });
        }
        if self.refused.is_empty() {
            return Ok(());
        }
        self.refused.dedup_by(|a, b| a.1 == b.1);
        let mut flags: Vec<String> = self.refused.iter().map(|(place, _)| format!("--override {place}")).collect();
        flags.dedup();
        Err(Error::OtherRun {
            path: path.into(),
            differences: self.refused.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", "),
            overrides: flags.join(" "),
        })
    }
}

fn other_number(before: usize, now: usize) -> Option<String> {
    (before != now).then(|| format!("{before} images -> {now} images"))
}

/// Keeps in `history` that a field was changed, with its first value.
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
