//! Images in tar files, named as WebDataset does.

use super::folder::common_folder;
use super::left::LeftOut;
use super::members::{Data, key, members};
use super::{Content, ImageSource, Stamp, classes_of, no_image};
use crate::Error;
use crate::file::admit;
use std::path::{Path, PathBuf};

/// Every image of some tar files, read in place. Files of a sample share what comes before the first
/// dot of their name: `0001.jpg` is of the class in `0001.cls`.
///
/// Hard links count as the files that they are links to, and files with holes are read; symbolic links in a tar file
/// lead nowhere, and nothing is unpacked.
#[derive(Clone, Debug)]
pub struct Shards {
    tars: Vec<PathBuf>,
    images: Vec<Entry>,
    classes: Vec<String>,
    labels: Vec<Option<u32>>,
    class_faults: Vec<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    tar: usize,
    name: String,
    data: Data,
}

impl Shards {
    /// Lists the images in `tars`, and tells `say` in one line what is left out of them. Refuses files that are no
    /// tar files and sets without images.
    pub fn open(tars: Vec<PathBuf>, say: &dyn Fn(&str)) -> Result<Self, Error> {
        let (mut images, mut texts, mut class_faults) = (Vec::new(), Vec::new(), Vec::new());
        let mut left = LeftOut::default();
        for (number, path) in tars.iter().enumerate() {
            let found = members(path, &prefix(&tars, number), &mut left)?;
            for (name, data) in found.images {
                texts.push(found.classes.get(key(&name)).and_then(|class| class.as_ref().ok()).cloned());
                images.push(Entry { tar: number, name, data });
            }
            class_faults.extend(found.classes.into_values().filter_map(Result::err));
        }
        let path = tars.first().map_or(Path::new("tar"), PathBuf::as_path);
        let text = left.text();
        if images.is_empty() {
            let but = text.map_or(String::new(), |text| format!(", but {text}"));
            let reason = format!("no images (jpg, png, webp, bmp, tif) in the tar files{but}");
            return Err(Error::layout(path, reason));
        }
        if let Some(text) = text {
            let of = if tars.len() == 1 { path.display().to_string() } else { format!("{} tar files", tars.len()) };
            say(&format!("note: left out of {of}: {text}"));
        }
        class_faults.sort();
        let (classes, labels) = classes_of(&texts);
        Ok(Self { tars, images, classes, labels, class_faults })
    }

    /// These shards, with names in place of classes that are numbers.
    #[cfg(feature = "parquet")]
    pub(super) fn with_class_names(mut self, names: &[String]) -> Self {
        let named = |c: &String| c.parse::<usize>().ok().and_then(|n| names.get(n)).unwrap_or(c).clone();
        self.classes = self.classes.iter().map(named).collect();
        self
    }
}

impl ImageSource for Shards {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, index: usize) -> String {
        let Some(entry) = self.images.get(index) else { return format!("image {index}") };
        prefix(&self.tars, entry.tar) + &entry.name
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied().flatten()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn class_faults(&self) -> &[String] {
        &self.class_faults
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        let entry = self.images.get(index)?;
        Some(Stamp { bytes: entry.data.size(), ..Stamp::of(&self.tars[entry.tar])? })
    }

    fn read(&self, index: usize) -> Result<Content, Error> {
        let entry = self.images.get(index).ok_or_else(|| no_image(index, self.images.len()))?;
        let tar = &self.tars[entry.tar];
        let fail = |reason| Error::decode(Path::new(&self.name(index)), reason);
        admit(entry.data.size()).map_err(fail)?;
        let bytes = entry.data.read(tar).map_err(|e| Error::io(tar, e))?;
        let bytes = bytes.map_err(|(have, want)| fail(format!("the tar file ends after {have} of {want} bytes")))?;
        Ok(Content::File(bytes))
    }
}

/// What the names of a tar file's images begin with: the name of the tar file where there are several.
fn prefix(tars: &[PathBuf], number: usize) -> String {
    match tars {
        [_] => String::new(),
        _ => format!("{}/", tars[number].strip_prefix(common_folder(tars)).unwrap_or(&tars[number]).display()),
    }
}
