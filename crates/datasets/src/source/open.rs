//! From what a user calls their data to a source.

use super::clips::{Clips, is_clip};
use super::folder::{Kind, below, common_folder, holds_image, is_image, unsupported};
use super::left::LeftOut;
use super::records::Layout;
use super::{Access, ImageFolder, ImageSource, Manifest, Records, Shards, pattern, remote};
use crate::Error;
use crate::file::kind_of;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens `spec`:
///
/// - a folder: of images at any depth; else of tar files, parquet files or videos; or of IDX or CIFAR
///   files (`FOLDER#test` for their other split), or one of these files;
/// - a `.txt`, `.csv` or `.tsv` file: a [`Manifest`];
/// - a `.tar` or `.parquet` file or several, by braces and wildcards;
/// - a video file;
/// - `hf://owner/name[@revision][#split]`.
pub fn open(spec: &str, access: &Access) -> Result<Arc<dyn ImageSource>, Error> {
    if spec.starts_with(remote::SCHEME) {
        return several(remote::fetch(spec, &access.cache, access.say)?, access);
    }
    let path = Path::new(spec);
    if !path.exists() && pattern::is_pattern(spec) {
        return several(pattern::files(spec)?, access);
    }
    let (path, split) = match spec.split_once('#') {
        Some((path, split)) if !Path::new(spec).exists() => (Path::new(path), Some(split)),
        _ => (path, None),
    };
    let is_folder = fs::metadata(path).map_err(|e| Error::io(path, e))?.is_dir();
    if is_folder && let Some((folder, layout)) = Layout::below(path)? {
        return Ok(Arc::new(Records::open(&folder, layout, split.unwrap_or("train"))?));
    }
    if let (false, Some((layout, own))) = (is_folder, Layout::of_file(path)) {
        let folder = path.parent().unwrap_or(Path::new(""));
        return Ok(Arc::new(Records::open(folder, layout, split.unwrap_or(own))?));
    }
    if let Some(split) = split {
        let valid = format!("{} is read whole, only IDX, CIFAR and hub data sets have splits", path.display());
        return Err(Error::Missing { what: format!("split {split:?}"), valid });
    }
    if is_folder { folder(path, access) } else { several(vec![path.to_path_buf()], access) }
}

fn folder(path: &Path, access: &Access) -> Result<Arc<dyn ImageSource>, Error> {
    const KINDS: [Kind; 4] = [is_image, is_tar, is_parquet, is_clip];
    let mut left = LeftOut::default();
    let found = below(path, KINDS, &mut left)?;
    let chosen = found.iter().position(|files| !files.is_empty());
    let beside = found.iter().enumerate().filter(|(kind, _)| Some(*kind) != chosen);
    for (kind, file) in beside.flat_map(|(kind, files)| files.iter().map(move |file| (kind, file))) {
        left.passed(BESIDE[kind], &file.strip_prefix(path).unwrap_or(file).display().to_string());
    }
    let text = left.text();
    let Some(chosen) = chosen else {
        let none = "no images (jpg, jpeg, png, webp, bmp, tif, tiff), tar, parquet or video files in or below it";
        let but = text.map_or(String::new(), |text| format!(", but {text}"));
        return Err(Error::layout(path, format!("{none}{but}")));
    };
    if let Some(text) = text {
        (access.say)(&format!("note: left out of {}: {text}", path.display()));
    }
    let files = found.into_iter().nth(chosen).unwrap_or_default();
    match chosen {
        0 => Ok(Arc::new(ImageFolder::of(path.to_path_buf(), files))),
        3 => clips(path, &files, access),
        _ => several(files, access),
    }
}

/// What to say of files that lie beside those of another kind, which are the source.
const BESIDE: [&str; 4] = [
    "images beside them",
    "tar files beside them, read if they are given by themselves",
    "parquet files beside them, read if they are given by themselves",
    "videos beside them, read if they are given by themselves",
];

fn clips(root: &Path, files: &[PathBuf], access: &Access) -> Result<Arc<dyn ImageSource>, Error> {
    Ok(Arc::new(Clips::open(root, files, access)?))
}

/// One file or several of a kind.
fn several(files: Vec<PathBuf>, access: &Access) -> Result<Arc<dyn ImageSource>, Error> {
    let all = |of: fn(&Path) -> bool| files.iter().all(|f| of(f));
    let Some(first) = files.first() else {
        return Err(Error::Config { field: "data", reason: "names no files".into() });
    };
    for file in &files {
        let kind = fs::metadata(file).map_err(|e| Error::io(file, e))?.file_type();
        if !kind.is_file() {
            return Err(Error::layout(file, format!("is a {}, not a file", kind_of(kind))));
        }
    }
    if all(is_tar) {
        Ok(Arc::new(Shards::open(files, access.say)?))
    } else if all(is_parquet) {
        parquet(files, access)
    } else if all(is_clip) {
        clips(common_folder(&files), &files, access)
    } else if files.len() == 1 && ["txt", "csv", "tsv"].iter().any(|e| has_extension(first, e)) {
        Ok(Arc::new(Manifest::open(first)?))
    } else if all(holds_image) {
        Ok(Arc::new(ImageFolder::of(common_folder(&files).to_path_buf(), files)))
    } else {
        if let Some(told) = unsupported(first) {
            return Err(Error::layout(first, told));
        }
        let known = "a folder, a list (txt, csv, tsv), tar files, parquet files, videos, or hf://owner/name";
        Err(Error::layout(first, format!("is not a source of images: give {known}")))
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

fn is_tar(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    // Compressed ones are recognised to be refused with advice.
    const ENDS: [&str; 10] =
        [".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".tzst", ".tar.zst", ".tar.lz4"];
    ENDS.iter().any(|e| name.ends_with(e))
}

fn is_parquet(path: &Path) -> bool {
    has_extension(path, "parquet")
}

/// Parquet files through their copy in the cache.
#[cfg(feature = "parquet")]
fn parquet(files: Vec<PathBuf>, access: &Access) -> Result<Arc<dyn ImageSource>, Error> {
    let folder = access.cache.join("parquet");
    super::partial::sweep(&folder);
    let tar = folder.join(format!("{}.tar", super::fingerprint::fingerprint(&files, "rows")?));
    let names = tar.with_extension("json");
    let known: Option<Vec<String>> = fs::read(&names).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let classes = match known {
        Some(classes) if tar.is_file() => classes,
        _ => {
            let classes = super::pack_parquet(&files, &tar, access.say, access.stop)?;
            let text = serde_json::to_vec(&classes).map_err(|e| Error::encode(&names, e))?;
            fs::write(&names, text).map_err(|e| Error::io(&names, e))?;
            classes
        }
    };
    Ok(Arc::new(Shards::open(vec![tar], access.say)?.with_class_names(&classes)))
}

#[cfg(not(feature = "parquet"))]
fn parquet(files: Vec<PathBuf>, _: &Access) -> Result<Arc<dyn ImageSource>, Error> {
    let path = files.first().map_or(Path::new("parquet"), PathBuf::as_path);
    Err(Error::layout(path, "parquet needs a build with --features parquet (cargo xtask adds it by itself)"))
}
