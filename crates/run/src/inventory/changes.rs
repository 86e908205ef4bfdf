//! What is different about the images of a run since they were seen last.

use super::digest::digests;
use super::list::{Entry, Inventory};
use selfpatch_datasets::ImageSource;
use std::collections::HashMap;

/// Images named as examples of each kind of change.
const EXAMPLES: usize = 3;

/// The differences between two lists of images.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    before: usize,
    now: usize,
    added: Vec<String>,
    removed: Vec<String>,
    /// Images of the same name with other bytes, or that can be read no more, or only now.
    altered: Vec<String>,
    /// Whether the same names stand in another order.
    reordered: bool,
    /// Images whose bytes were read and compared.
    pub compared: usize,
    /// Images whose files have another time and that were not read, as there are too many.
    pub unread: usize,
}

impl Changes {
    /// Compares `now` with `before`, and gives `now` the digests that still hold. Images of `source` are read only
    /// where their file has another time, if the files are those of then (`trusts_times`).
    pub fn between(before: &Inventory, now: &mut Inventory, source: &dyn ImageSource, trusts_times: bool) -> Self {
        let mut changes = Self { before: before.entries.len(), now: now.entries.len(), ..Self::default() };
        let same_order = before.entries.iter().map(|e| &e.name).eq(now.entries.iter().map(|e| &e.name));
        let pairs: Vec<Option<usize>> = match same_order {
            true => (0..now.entries.len()).map(Some).collect(),
            false => changes.by_name(before, now),
        };
        let mut to_compare = Vec::new();
        for (index, old) in pairs.iter().enumerate().filter_map(|(i, old)| Some((i, &before.entries[(*old)?]))) {
            let entry = &mut now.entries[index];
            match (old.stamp, entry.stamp) {
                (Some(then), Some(today)) if then.bytes != today.bytes => changes.altered.push(entry.name.clone()),
                (Some(then), Some(today)) if trusts_times && then == today => entry.digest = old.digest,
                (Some(_), None) => changes.altered.push(entry.name.clone()),
                (None, Some(_)) if old.digest.is_none() => changes.altered.push(entry.name.clone()),
                // Nobody has seen what it was.
                _ if old.digest.is_none() => {}
                _ => {
                    entry.digest = old.digest;
                    to_compare.push(index);
                }
            }
        }
        let few = now.few(&to_compare);
        (changes.compared, changes.unread) = (few.len(), to_compare.len() - few.len());
        for (index, digest) in digests(source, &few) {
            let entry = &mut now.entries[index];
            if entry.digest != digest {
                entry.digest = digest;
                changes.altered.push(entry.name.clone());
            }
        }
        changes
    }

    /// The place in `before` of each image of `now`, by its name; notes the images that only one of them has.
    fn by_name(&mut self, before: &Inventory, now: &Inventory) -> Vec<Option<usize>> {
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, entry) in before.entries.iter().enumerate().rev() {
            places.entry(&entry.name).or_default().push(place);
        }
        let pairs: Vec<Option<usize>> =
            now.entries.iter().map(|e| places.get_mut(e.name.as_str()).and_then(Vec::pop)).collect();
        let mut kept = vec![false; before.entries.len()];
        pairs.iter().flatten().for_each(|&place| kept[place] = true);
        let of = |entries: &[Entry], gone: &dyn Fn(usize) -> bool| -> Vec<String> {
            entries.iter().enumerate().filter(|(i, _)| gone(*i)).map(|(_, e)| e.name.clone()).collect()
        };
        self.added = of(&now.entries, &|i| pairs[i].is_none());
        self.removed = of(&before.entries, &|i| !kept[i]);
        self.reordered = !pairs.iter().flatten().is_sorted();
        pairs
    }

    /// The changes in words with counts and examples; `None` if training goes on as if nothing had happened.
    pub fn told(&self) -> Option<String> {
        let kinds = [(&self.added, "new"), (&self.removed, "gone"), (&self.altered, "with other bytes")];
        let kinds = kinds.into_iter().filter(|(names, _)| !names.is_empty());
        let mut parts: Vec<String> = kinds.map(|(names, what)| listed(names, what)).collect();
        if self.reordered {
            parts.push("in another order".into());
        }
        if parts.is_empty() {
            return None;
        }
        let count = match self.before == self.now {
            true => format!("{} images as before, but not the same", self.now),
            false => format!("{} images -> {} images", self.before, self.now),
        };
        Some(format!("{count} ({})", parts.join("; ")))
    }
}

/// Some names as one part of a message, such as `2 new: a.png, b.png`.
pub(crate) fn listed(names: &[String], what: &str) -> String {
    let more = if names.len() > EXAMPLES { ", ..." } else { "" };
    format!("{} {what}: {}{more}", names.len(), names[..names.len().min(EXAMPLES)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::watched::Watched;
    use super::*;
    use selfpatch_datasets::{Content, Error, Stamp};
    use std::sync::Arc;

    /// Name, time and bytes.
    type File = (&'static str, u64, &'static [u8]);

    #[derive(Clone)]
    struct Files(Vec<File>);

    impl ImageSource for Files {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn name(&self, index: usize) -> String {
            self.0[index].0.into()
        }

        fn stamp(&self, index: usize) -> Option<Stamp> {
            let (_, time, bytes) = self.0[index];
            (time > 0).then_some(Stamp { bytes: bytes.len() as u64, time })
        }

        fn read(&self, index: usize) -> Result<Content, Error> {
            Ok(Content::File(self.0[index].2.to_vec()))
        }
    }

    fn told(before: &Files, now: &Files) -> Option<String> {
        let mut known = Inventory::of(before);
        known.learn(before);
        Changes::between(&known, &mut Inventory::of(now), now, true).told()
    }

    #[test]
    fn what_matters_is_told_and_what_does_not_passes() {
        let before = Files(vec![("a", 1, b"aa"), ("b", 1, b"bb"), ("c", 1, b"cc")]);
        let with = |change: fn(&mut Vec<File>)| {
            let mut now = before.clone();
            change(&mut now.0);
            told(&before, &now).unwrap_or_default()
        };
        assert_eq!(with(|_| ()), "");
        assert_eq!(with(|f| f.iter_mut().for_each(|f| f.1 = 9)), "", "touched");
        assert_eq!(with(|f| f[1] = ("b", 9, b"BB")), "3 images as before, but not the same (1 with other bytes: b)");
        assert_eq!(with(|f| f[1].2 = b"longer"), "3 images as before, but not the same (1 with other bytes: b)");
        assert_eq!(with(|f| f[1].1 = 0), "3 images as before, but not the same (1 with other bytes: b)", "no file");
        assert_eq!(with(|f| f.push(("d", 1, b"dd"))), "3 images -> 4 images (1 new: d)");
        assert_eq!(with(|f| _ = f.remove(0)), "3 images -> 2 images (1 gone: a)");
        assert_eq!(with(|f| f[0].0 = "x"), "3 images as before, but not the same (1 new: x; 1 gone: a)");
        assert_eq!(with(|f| f.reverse()), "3 images as before, but not the same (in another order)");
        assert_eq!(with(|f| f.push(("a", 1, b"aa"))), "3 images -> 4 images (1 new: a)");
    }

    #[test]
    fn times_of_other_files_are_no_proof() {
        let before = Files(vec![("a", 1, b"aa"), ("b", 1, b"bb")]);
        let mut known = Inventory::of(&before);
        known.learn(&before);
        let other = Files(vec![("a", 1, b"aa"), ("b", 1, b"BB")]);
        let between = |trusts| Changes::between(&known, &mut Inventory::of(&other), &other, trusts);
        assert_eq!((between(true).told(), between(true).compared), (None, 0));
        assert_eq!((between(false).told().is_some(), between(false).compared), (true, 2));
    }

    #[test]
    fn what_nobody_has_read_is_learnt_on_the_way() {
        let files = Files(vec![("a", 1, b"aa"), ("b", 1, b"bb")]);
        let watched = Watched::new(Arc::new(files.clone()), Inventory::of(&files));
        let folder = tempfile::tempdir().expect("a temporary folder");
        watched.save(folder.path()).expect("nothing to write");
        assert_eq!(Inventory::read(folder.path()).expect("nothing there"), None);
        watched.read(1).expect("bytes");
        watched.save(folder.path()).expect("written");
        let before = Inventory::read(folder.path()).expect("readable").expect("written");
        assert_eq!(before.entries.iter().map(|e| e.digest.is_some()).collect::<Vec<_>>(), [false, true]);
        // Of the first nobody knows whether it changed or was touched; the second is compared.
        let later = Files(vec![("a", 2, b"AA"), ("b", 2, b"BB")]);
        let mut now = Inventory::of(&later);
        let changes = Changes::between(&before, &mut now, &later, true);
        assert!(changes.told().is_some_and(|t| t.contains("1 with other bytes: b")), "{changes:?}");
        // One that changes while training goes on is noticed when it is read.
        let watched = Watched::new(Arc::new(later), before);
        watched.read(1).expect("bytes");
        assert_eq!((watched.take_changed(), watched.take_changed()), (vec!["b".to_string()], vec![]));
    }
}
