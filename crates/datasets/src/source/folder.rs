//! Images below a folder, found once and decoded when asked for.

use std::collections::HashSet;
use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::left::{LeftOut, promises_nothing};
use super::own::is_own;
use super::{Content, ImageSource, Stamp, classes_of, no_image};
use crate::Error;
use crate::decode::Format;
use crate::decode::foreign::{self, START};
use crate::file::{contents, kind_of};

/// Every image below a folder, at any depth, with or without class folders, sorted by path.
///
/// Hidden files and folders and the outputs of this program are skipped. Symbolic links are followed; a folder that is reached
/// twice is read once, so links cannot form a loop. Where all images lie in folders of the root, those
/// folders are the classes.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    root: PathBuf,
    files: Vec<PathBuf>,
    classes: Vec<String>,
    labels: Vec<Option<u32>>,
}

impl ImageFolder {
    /// Lists the images below `path`. Refuses a missing path, a file, and a folder without images.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let root = path.as_ref().to_path_buf();
        let kind = fs::metadata(&root).map_err(|e| Error::io(&root, e))?;
        if !kind.is_dir() {
            let reason = "this is a file, but a folder of images was expected";
            return Err(Error::layout(&root, reason));
        }
        let [files] = below(&root, [is_image], &mut LeftOut::default())?;
        if files.is_empty() {
            let reason = "no images (jpg, jpeg, png, webp, bmp, tif, tiff) in or below it";
            return Err(Error::layout(&root, reason));
        }
        Ok(Self::of(root, files))
    }

    /// These files below `root`.
    pub(super) fn of(root: PathBuf, files: Vec<PathBuf>) -> Self {
        let class = |file: &PathBuf| {
            let mut parts = file.strip_prefix(&root).ok()?.components();
            let first = parts.next()?;
            parts.next().map(|_| first.as_os_str().to_string_lossy().into_owned())
        };
        let mut texts: Vec<Option<String>> = files.iter().map(class).collect();
        if texts.iter().any(Option::is_none) {
            texts.fill(None);
        }
        let (classes, labels) = classes_of(&texts);
        Self { root, files, classes, labels }
    }

    /// Paths of the images, in the order of their indices.
    pub fn paths(&self) -> &[PathBuf] {
        &self.files
    }
}

impl ImageSource for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        match self.files.get(index) {
            Some(path) => path.strip_prefix(&self.root).unwrap_or(path).display().to_string(),
            None => format!("image {index}"),
        }
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied().flatten()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        Stamp::of(self.files.get(index)?)
    }

    fn read(&self, index: usize) -> Result<Content, Error> {
        let path = self.files.get(index).ok_or_else(|| no_image(index, self.files.len()))?;
        Ok(Content::File(contents(path)?))
    }
}

/// The deepest folder that all `files` lie below.
pub(super) fn common_folder(files: &[PathBuf]) -> &Path {
    let parents = || files.iter().filter_map(|f| f.parent());
    let common = parents().next().and_then(|first| first.ancestors().find(|a| parents().all(|p| p.starts_with(a))));
    common.unwrap_or(Path::new(""))
}

/// Whether a file belongs to a kind, by its name.
pub(super) type Kind = fn(&Path) -> bool;

/// Visible files below `root` by the first of `kinds` that they belong to, each list sorted. The first kind also
/// gets the files whose name promises nothing and that are images by their content, and the links with a name of
/// its own that lead nowhere: bad images, not the end of all of them.
///
/// What is of no kind goes to `left`, and so do folders that cannot be read, and those of runs and other outputs of
/// this program, other than `root` itself.
pub(super) fn below<const N: usize>(
    root: &Path,
    kinds: [Kind; N],
    left: &mut LeftOut,
) -> Result<[Vec<PathBuf>; N], Error> {
    walk(root, kinds, left, &|folder| fs::read_dir(folder)?.collect())
}

/// [`below`], with what lists a folder.
fn walk<const N: usize>(
    root: &Path,
    kinds: [Kind; N],
    left: &mut LeftOut,
    list: &dyn Fn(&Path) -> io::Result<Vec<DirEntry>>,
) -> Result<[Vec<PathBuf>; N], Error> {
    let mut files = [const { Vec::new() }; N];
    let mut seen = HashSet::new();
    let mut folders = vec![root.to_path_buf()];
    let name = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    while let Some(folder) = folders.pop() {
        if folder != root && is_own(&folder) {
            left.passed("folders that this program wrote", &name(&folder));
            continue;
        }
        let (real, entries) = match fs::canonicalize(&folder).and_then(|real| Ok((real, list(&folder)?))) {
            Ok(found) => found,
            Err(e) if folder == root => return Err(Error::io(root, e)),
            Err(e) => {
                left.passed("folders that cannot be read", &format!("{}: {e}", name(&folder)));
                continue;
            }
        };
        if !seen.insert(real) {
            left.passed("folders that links reach again", &name(&folder));
            continue;
        }
        let mut inside = Vec::new();
        for entry in entries {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let kind = kinds.iter().position(|is| is(&path));
            // Through links.
            let about = match entry.file_type() {
                Ok(own) if !own.is_symlink() => Ok(own),
                _ => fs::metadata(&path).map(|target| target.file_type()),
            };
            match (about, kind) {
                (Ok(about), _) if about.is_dir() => inside.push(path),
                (Ok(about), Some(kind)) if about.is_file() => files[kind].push(path),
                (Ok(about), None) if about.is_file() => match begins(&path) {
                    Ok(Some(foreign::Content::Image)) => files[0].push(path),
                    Ok(content) => left.file(&name(&path), content),
                    Err(_) => left.passed("files that cannot be read", &name(&path)),
                },
                (Ok(about), _) => left.passed("named pipes, sockets and devices", &special(&name(&path), about)),
                (Err(_), Some(0)) => files[0].push(path),
                (Err(_), _) => left.passed("links that lead nowhere", &name(&path)),
            }
        }
        // Depth first in sorted order: which of two links to one folder wins is then fixed.
        inside.sort_by(|a, b| b.cmp(a));
        folders.append(&mut inside);
    }
    files.iter_mut().for_each(|files| files.sort());
    Ok(files)
}

/// What to say of a file that is an image of a format that is not read, by its content or its name.
pub(super) fn unsupported(path: &Path) -> Option<String> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START as u64).read_to_end(&mut start));
    if let (Ok(_), Some(told)) = (read, foreign::told(&start)) {
        return Some(format!("is no source of images, {told}"));
    }
    let advice = foreign::advice_of_name(&path.to_string_lossy())?;
    Some(format!("is by its name of a format that is {advice}"))
}

/// What a file is whose name promises nothing; `None` for other names.
fn begins(path: &Path) -> io::Result<Option<foreign::Content>> {
    if !promises_nothing(&path.to_string_lossy()) {
        return Ok(None);
    }
    let mut start = Vec::new();
    File::open(path)?.take(START as u64).read_to_end(&mut start)?;
    Ok(Some(foreign::content(&start)))
}

fn special(name: &str, about: fs::FileType) -> String {
    format!("{name}: a {}", kind_of(about))
}

/// Whether the extension, in any case, is one of an image; what a file holds is decided by its content.
pub(super) fn is_image(path: &Path) -> bool {
    Format::of_name(&path.to_string_lossy()).is_some()
}

/// Whether a file that need not say so by its name is an image.
pub(super) fn holds_image(path: &Path) -> bool {
    is_image(path) || matches!(begins(path), Ok(Some(foreign::Content::Image)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_program_wrote_is_no_data() {
        let root = std::env::temp_dir().join(format!("selfpatch-own-{}", std::process::id()));
        for (name, text) in [
            ("1.png", ""),
            ("runs/a/config.toml", "[model]\n[patch_loss]\n"),
            ("runs/a/lock", ""),
            ("runs/a/views/crop.png", ""),
            ("runs/inspect-data/inspection.json", ""),
            ("runs/inspect-data/index.html", ""),
            ("runs/inspect-data/contact-sheet.png", ""),
            ("other/config.toml", "[tool]"),
            ("other/checkpoints/2.png", ""),
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut left = LeftOut::default();
        let [files] = below(&root, [is_image], &mut left).unwrap();
        assert_eq!(files, [root.join("1.png"), root.join("other/checkpoints/2.png")]);
        let text = left.text().unwrap();
        assert!(text.contains("2 folders that this program wrote (runs/a, runs/inspect-data)"), "{text}");
        // Whoever names one means it.
        let [files] = below(&root.join("runs/a"), [is_image], &mut left).unwrap();
        assert_eq!(files, [root.join("runs/a/views/crop.png")]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_passed_over_and_named() {
        let root = std::env::temp_dir().join(format!("selfpatch-walk-{}", std::process::id()));
        ["a", "lost+found", "z"].iter().for_each(|name| fs::create_dir_all(root.join(name)).unwrap());
        ["a/1.png", "lost+found/2.png", "z/3.png"].iter().for_each(|name| fs::write(root.join(name), "").unwrap());
        let refusing = |at: &'static str| {
            move |folder: &Path| match folder.ends_with(at) {
                true => Err(io::ErrorKind::PermissionDenied.into()),
                false => fs::read_dir(folder)?.collect(),
            }
        };
        let mut left = LeftOut::default();
        let [files] = walk(&root, [is_image], &mut left, &refusing("lost+found")).unwrap();
        assert_eq!(files, [root.join("a/1.png"), root.join("z/3.png")]);
        assert_eq!(left.text().unwrap(), "1 folders that cannot be read (lost+found: permission denied)");
        let name: &'static str = Box::leak(root.file_name().unwrap().to_string_lossy().into_owned().into_boxed_str());
        assert!(walk(&root, [is_image], &mut left, &refusing(name)).is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
