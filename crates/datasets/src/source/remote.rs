//! Data sets on the Hugging Face hub: `hf://owner/name[@revision][#split]`.

use crate::Error;
use std::path::{Path, PathBuf};

/// The scheme of such names.
pub(super) const SCHEME: &str = "hf://";

/// What was fetched of a data set.
#[cfg_attr(not(feature = "hub"), allow(dead_code))]
pub(super) enum Fetched {
    Parquet(Vec<PathBuf>),
    Tars(Vec<PathBuf>),
    Images(PathBuf, Vec<PathBuf>),
}

/// Fetches the files of a split, or finds them in the cache: parquet files, else those that the hub
/// converted to parquet, else tar files, else images. What was fetched is written down below `cache`,
/// so that later calls need no network.
#[cfg(feature = "hub")]
pub(super) fn fetch(uri: &str, cache: &Path, say: &dyn Fn(&str)) -> Result<Fetched, Error> {
    use selfpatch_hub::{DataSet, Kind};
    let fail = |reason: String| Error::Config { field: "data", reason };
    let set = DataSet::parse(uri).map_err(|e| fail(e.to_string()))?;
    let note = cache.join("hub").join(format!("{}.json", blake3::hash(uri.as_bytes()).to_hex()));
    let known: Option<Vec<String>> = std::fs::read(&note).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    // Revision first, then the files.
    let list = match known {
        Some(list) => list,
        None => {
            say(&format!("asking the hub for the files of {uri}"));
            let mut choice = (set.revision.clone(), Vec::new());
            for revision in [set.revision.as_str(), "refs/convert/parquet"] {
                let files = match selfpatch_hub::files(&set, revision) {
                    Ok(files) => files,
                    Err(_) if revision != set.revision => break,
                    Err(e) => return Err(fail(format!("{e:#}"))),
                };
                let wanted = wanted(&files, &set.split);
                let converted = revision != set.revision;
                if wanted.iter().any(|f| f.ends_with(".parquet")) || (!converted && !wanted.is_empty()) {
                    choice = (revision.to_string(), wanted);
                }
                if choice.1.iter().any(|f| f.ends_with(".parquet")) {
                    break;
                }
            }
            if choice.1.is_empty() {
                let what = format!("{uri}: no parquet files, tar files or images of split {:?}", set.split);
                return Err(fail(what));
            }
            std::iter::once(choice.0).chain(choice.1).collect()
        }
    };
    let (revision, files) = list.split_first().ok_or_else(|| fail(format!("{}: is empty", note.display())))?;
    let mut paths = Vec::new();
    for file in files {
        let path = selfpatch_hub::fetch(uri, Kind::DataSet, &set.owner, &set.name, revision, file);
        paths.push(path.map_err(|e| fail(format!("{e:#}")))?);
    }
    let folder = note.parent().unwrap_or(cache);
    let text = serde_json::to_vec(&list).map_err(|e| fail(e.to_string()))?;
    std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&note, text)).map_err(|e| Error::io(&note, e))?;
    Ok(match files.first().map_or("", String::as_str) {
        f if f.ends_with(".parquet") => Fetched::Parquet(paths),
        f if f.ends_with(".tar") => Fetched::Tars(paths),
        _ => {
            // Below the snapshot, where names are those in the repository.
            let depth = files.first().map_or(1, |f| f.split('/').count());
            let root = paths.first().and_then(|p| p.ancestors().nth(depth)).unwrap_or(cache).to_path_buf();
            Fetched::Images(root, paths)
        }
    })
}

/// Says how to get a program that has access to the hub.
#[cfg(not(feature = "hub"))]
pub(super) fn fetch(uri: &str, _: &Path, _: &dyn Fn(&str)) -> Result<Fetched, Error> {
    let reason = format!("{uri}: this build has no hub access; cargo xtask adds it by itself (--features hub)");
    Err(Error::Config { field: "data", reason })
}

/// The files of a split, of the best kind that there is. A split is named by a folder or by the
/// beginning of a file name; without any, all files count as the split `train`.
#[cfg(any(feature = "hub", test))]
fn wanted(files: &[String], split: &str) -> Vec<String> {
    let is_image = |f: &String| crate::decode::Format::of_name(f).is_some();
    let kinds: [&dyn Fn(&String) -> bool; 3] = [&|f| f.ends_with(".parquet"), &|f| f.ends_with(".tar"), &is_image];
    for kind in kinds {
        let files: Vec<&String> = files.iter().filter(|f| kind(f)).collect();
        if files.is_empty() {
            continue;
        }
        let names = |f: &str, split: &str| {
            f.split('/').any(|part| {
                let rest = part.strip_prefix(split);
                rest.is_some_and(|r| r.is_empty() || r.starts_with(['-', '.', '_']) || r.as_bytes()[0].is_ascii_digit())
            })
        };
        let known = ["train", "test", "validation", "val", "dev"];
        let any = files.iter().any(|f| known.iter().any(|s| names(f, s)));
        let chosen = files.into_iter().filter(|f| names(f, split) || (!any && split == "train"));
        let mut chosen: Vec<String> = chosen.cloned().collect();
        chosen.sort();
        if !chosen.is_empty() {
            return chosen;
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn a_split_is_a_folder_or_the_beginning_of_a_name() {
        let files = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let set = files(&[
            "data/train-00001-of-00002.parquet",
            "data/test-0.parquet",
            "data/train-00000-of-00002.parquet",
            "README.md",
        ]);
        assert_eq!(wanted(&set, "train"), ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]);
        assert_eq!(wanted(&set, "test"), ["data/test-0.parquet"]);
        assert!(wanted(&set, "validation").is_empty());
        assert_eq!(wanted(&files(&["plain_text/train/0000.parquet", "training.parquet"]), "train").len(), 1);
        assert_eq!(wanted(&files(&["a.tar", "b.tar", "c.jpg"]), "train"), ["a.tar", "b.tar"]);
        assert_eq!(wanted(&files(&["train/x.jpg", "test/y.jpg"]), "test"), ["test/y.jpg"]);
    }
}
