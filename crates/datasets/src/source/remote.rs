//! Data sets on the Hugging Face hub: `hf://owner/name[@revision][#split]`, where the split may have folders
//! before it.

use crate::Error;
#[cfg(any(feature = "hub", test))]
use crate::decode::Format;
#[cfg(any(feature = "hub", test))]
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The scheme of such names.
pub(super) const SCHEME: &str = "hf://";

/// Says how to get a program that has access to the hub.
#[cfg(not(feature = "hub"))]
pub(super) fn fetch(uri: &str, _: &Path, _: &dyn Fn(&str)) -> Result<Vec<PathBuf>, Error> {
    let reason = format!("{uri}: this build has no hub access; cargo xtask adds it by itself (--features hub)");
    Err(Error::Config { field: "data", reason })
}

/// A commit and the files of it that are wanted.
#[cfg(feature = "hub")]
type Choice = (String, Vec<String>);

/// Fetches the files of a split, or finds them in the hub's cache: parquet files, else those that the hub
/// converted to parquet, else tar files, else images; all of one commit. Which they are is written down
/// below `cache`, so that later calls need no network: what was fetched once stays as it is.
#[cfg(feature = "hub")]
pub(super) fn fetch(uri: &str, cache: &Path, say: &dyn Fn(&str)) -> Result<Vec<PathBuf>, Error> {
    let fail = |reason| Error::Config { field: "data", reason };
    let set = selfpatch_hub::DataSet::parse(uri).map_err(|e| fail(e.to_string()))?;
    let folder = cache.join("hub");
    let note = folder.join(format!("{}.json", blake3::hash(format!("{set:?}").as_bytes()).to_hex()));
    let known: Option<Choice> = std::fs::read(&note).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let fetched = |(commit, files): &Choice| set.fetch(commit, files).map_err(|e| fail(format!("{e:#}")));
    // Where they are neither here nor there any more, it begins anew.
    if let Some(paths) = known.and_then(|choice| fetched(&choice).ok()) {
        return Ok(paths);
    }
    say(&format!("asking the hub for the files of {uri}"));
    let choice = choose(uri, &set, say).map_err(fail)?;
    say(&format!("fetching {uri} (files: {})", choice.1.len()));
    let paths = fetched(&choice)?;
    let text = serde_json::to_vec(&choice).map_err(|e| Error::encode(&note, e))?;
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&note, text));
    written.map_err(|e| Error::io(&note, e))?;
    Ok(paths)
}

/// The files to fetch, or why there are none.
#[cfg(feature = "hub")]
fn choose(uri: &str, set: &selfpatch_hub::DataSet, say: &dyn Fn(&str)) -> Result<Choice, String> {
    let list = |revision: &str| set.files(revision).map_err(|e| format!("{e:#}"));
    let (commit, own) =
        list(&set.revision)?.ok_or_else(|| format!("{uri}: the data set has no revision {}", set.revision))?;
    let mut splits = BTreeSet::new();
    let mut choice = (commit.clone(), wanted(&own, Kind::Parquet, &set.split, &mut splits));
    // The hub converts the newest revision alone, and of large data sets only the beginning.
    if choice.1.is_empty()
        && set.revision == "main"
        && let Some((commit, files)) = list("refs/convert/parquet")?
    {
        let whole = |file: &String| !file.split('/').any(|part| part.starts_with("partial-"));
        let files: Vec<String> = files.into_iter().filter(whole).collect();
        choice = (commit, wanted(&files, Kind::Parquet, &set.split, &mut splits));
    }
    for kind in [Kind::Tar, Kind::Image] {
        // A picture beside tables is no split of theirs.
        if choice.1.is_empty() && splits.is_empty() {
            choice = (commit.clone(), wanted(&own, kind, &set.split, &mut splits));
        }
    }
    let joined = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    if choice.1.is_empty() {
        return Err(match splits.is_empty() {
            true => format!("{uri}: the data set has no parquet files, tar files or images"),
            false => format!("{uri}: the data set has no split {}, but {}", set.split, joined(splits)),
        });
    }
    let folder = |file: &String| Some(file.rsplit_once('/')?.0.to_string());
    let folders: BTreeSet<String> = choice.1.iter().filter(|f| Kind::Parquet.has(f)).filter_map(folder).collect();
    if folders.len() > 1 {
        say(&format!("note: {uri} takes all of {}; #FOLDER/{} takes one", joined(folders), set.split));
    }
    Ok(choice)
}

#[cfg(any(feature = "hub", test))]
#[derive(Clone, Copy)]
enum Kind {
    Parquet,
    Tar,
    Image,
}

#[cfg(any(feature = "hub", test))]
impl Kind {
    fn has(self, file: &str) -> bool {
        match self {
            Self::Parquet => file.ends_with(".parquet"),
            Self::Tar => file.ends_with(".tar"),
            Self::Image => Format::of_name(file).is_some(),
        }
    }
}

/// Usual names of splits.
#[cfg(any(feature = "hub", test))]
const SPLITS: [&str; 10] =
    ["train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation"];

/// The files of a kind that belong to a split, sorted; where there are none, `splits` gets the names of
/// those that exist.
///
/// A split is named by a folder or by the beginning of a file's name, after folders that must be among
/// those of the file; without any of the usual names, all files count as the split `train`.
#[cfg(any(feature = "hub", test))]
fn wanted(files: &[String], kind: Kind, split: &str, splits: &mut BTreeSet<String>) -> Vec<String> {
    let names = |file: &str, split: &str| {
        file.split('/').any(|part| {
            let rest = part.strip_prefix(split);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphabetic()))
        })
    };
    let files: Vec<&String> = files.iter().filter(|file| kind.has(file)).collect();
    let unnamed = !files.iter().any(|file| SPLITS.iter().any(|split| names(file, split)));
    let (folders, name) = split.rsplit_once('/').map_or((None, split), |(folders, name)| (Some(folders), name));
    let inside = |file: &str| folders.is_none_or(|f| f.split('/').all(|f| file.split('/').any(|part| part == f)));
    let belongs = |file: &&&String| inside(file) && (names(file, name) || (unnamed && name == "train"));
    let mut chosen: Vec<String> = files.iter().filter(belongs).map(|file| file.to_string()).collect();
    chosen.sort();
    if chosen.is_empty() {
        splits.extend(
            files.iter().flat_map(|file| SPLITS.iter().filter(|split| names(file, split))).map(|s| s.to_string()),
        );
        if unnamed && !files.is_empty() {
            splits.insert("train".into());
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::{Kind, wanted};
    use std::collections::BTreeSet;

    #[test]
    fn a_split_is_a_folder_or_the_beginning_of_a_name() {
        let files = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let of = |names: &[&str], kind, split: &str| wanted(&files(names), kind, split, &mut BTreeSet::new());
        let set = [
            "data/train-00001-of-00002.parquet",
            "data/test-0.parquet",
            "data/train-00000-of-00002.parquet",
            "README.md",
            "x.jpg",
        ];
        let train = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];
        assert_eq!(of(&set, Kind::Parquet, "train"), train);
        assert_eq!(of(&set, Kind::Parquet, "data/train"), train);
        assert!(of(&set, Kind::Parquet, "dat/train").is_empty());
        assert_eq!(of(&set, Kind::Parquet, "test"), ["data/test-0.parquet"]);
        assert_eq!(of(&set, Kind::Image, "train"), ["x.jpg"]);
        assert_eq!(
            of(&["plain/train/0.parquet", "trainer.parquet"], Kind::Parquet, "train"),
            ["plain/train/0.parquet"]
        );
        assert_eq!(of(&["b.tar", "a.tar", "c.jpg"], Kind::Tar, "train"), ["a.tar", "b.tar"]);
        assert_eq!(of(&["train2017/x.jpg", "test/y.jpg"], Kind::Image, "train"), ["train2017/x.jpg"]);
        let configurations = ["a/train/0.parquet", "b/train/0.parquet"];
        assert_eq!(of(&configurations, Kind::Parquet, "train").len(), 2);
        assert_eq!(of(&configurations, Kind::Parquet, "b/train"), ["b/train/0.parquet"]);
    }

    #[test]
    fn what_exists_is_told() {
        let of = |names: &[&str], split: &str| {
            let files: Vec<String> = names.iter().map(|n| n.to_string()).collect();
            let mut splits = BTreeSet::new();
            assert!(wanted(&files, Kind::Parquet, split, &mut splits).is_empty());
            splits.into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&["data/train-0.parquet", "data/validation-0.parquet"], "test"), "train validation");
        assert_eq!(of(&["a.parquet", "b.parquet"], "test"), "train");
        assert_eq!(of(&["a.tar"], "train"), "");
    }
}
