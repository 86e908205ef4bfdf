//! Files of models and data sets on the Hugging Face hub: `hf://owner/name[@revision]/path/in/repo` and
//! `hf://owner/name[@revision][#split]`.
//!
//! The local cache is asked first, so that what was fetched once needs no network again; a branch
//! therefore stays at the commit at which it was first seen. Cache, token and endpoint come from the
//! usual variables (`HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, …).

use anyhow::{Context, Result, bail};
use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::repository::RepoType;
use hf_hub::{HFClient, HFClientSync, HFError, HFRepositorySync};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SCHEME: &str = "hf://";

/// Further tries of a request that got no answer: about a second in all.
const RETRIES: usize = 3;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Weights.
    Model,
    /// Data.
    DataSet,
}

/// A file in a model repository.
#[derive(Debug, PartialEq)]
pub struct Remote {
    /// User or organisation.
    pub owner: String,
    /// Repository.
    pub name: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Path in the repository.
    pub file: String,
}

/// A split of a data set.
#[derive(Debug, PartialEq)]
pub struct DataSet {
    /// User or organisation.
    pub owner: String,
    /// Repository.
    pub name: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// `train` unless named.
    pub split: String,
}

/// The local copy of a file of the hub called `uri` in messages.
pub fn fetch(uri: &str, kind: Kind, owner: &str, name: &str, revision: &str, file: &str) -> Result<PathBuf> {
    let client = client(uri)?;
    match kind {
        Kind::Model => fetch_from(uri, &client.model(owner, name), (owner, name), revision, file),
        Kind::DataSet => fetch_from(uri, &client.dataset(owner, name), (owner, name), revision, file),
    }
}

/// The names of all files of a data set at `revision`. Needs the network.
pub fn files(set: &DataSet, revision: &str) -> Result<Vec<String>> {
    let uri = format!("{SCHEME}{}/{}", set.owner, set.name);
    if offline() {
        bail!("{uri}: was not fetched before, and HF_HUB_OFFLINE forbids to ask the hub");
    }
    let repo = client(&uri)?.dataset(&*set.owner, &*set.name);
    let info = repo.info().revision(revision).send();
    let info = info.map_err(|e| {
        let what = refusal(&e).unwrap_or_else(|| format!("has no revision {revision}, or does not exist: {e}"));
        anyhow::anyhow!("{uri}: {what}")
    })?;
    Ok(info.siblings.unwrap_or_default().into_iter().map(|s| s.rfilename).collect())
}

fn client(uri: &str) -> Result<HFClientSync> {
    HFClient::builder()
        .retry_max_attempts(RETRIES)
        .build_sync()
        .with_context(|| format!("{uri}: there is no access to the hub; is HF_ENDPOINT right?"))
}

/// What a user can do about an error of the hub.
fn refusal(e: &HFError) -> Option<String> {
    match e {
        HFError::Request { source, .. } if source.is_connect() || source.is_timeout() => {
            Some(format!("is not in the cache {}, and the hub does not answer", hf_hub::resolve_cache_dir().display()))
        }
        HFError::AuthRequired { .. } => Some("the hub wants a token (HF_TOKEN), or there is no such repository".into()),
        HFError::Forbidden { .. } => Some("the hub refuses access; the repository may want its terms accepted".into()),
        _ => None,
    }
}

/// The file's copy in the cache, fetched if there is none yet.
fn fetch_from<T: RepoType>(
    uri: &str,
    repo: &HFRepositorySync<T>,
    (owner, name): (&str, &str),
    revision: &str,
    file: &str,
) -> Result<PathBuf> {
    let cached = repo.download_file().filename(file).revision(revision).local_files_only(true).send();
    match cached {
        Ok(path) => return Ok(path),
        // The second: it was absent when last asked for, and may have come since.
        Err(HFError::LocalEntryNotFound { .. } | HFError::EntryNotFound { .. }) => {}
        Err(e) => return Err(e).with_context(|| format!("{uri}: the cache cannot be read")),
    }
    if offline() {
        let cache = hf_hub::resolve_cache_dir();
        bail!("{uri}: is not in the cache {}, and HF_HUB_OFFLINE forbids to fetch it", cache.display());
    }
    let meter = Arc::new(Meter::new(uri));
    let fetched = repo.download_file().filename(file).revision(revision).progress(Arc::clone(&meter)).send();
    meter.bar.finish_and_clear();
    let path = match fetched {
        Ok(path) => path,
        Err(HFError::EntryNotFound { .. }) => bail!(
            "{uri}: the hub answers 404 Not Found: no file {file} at revision {revision} of {owner}/{name}, or no such \
             revision or repository"
        ),
        Err(e) => {
            let what = refusal(&e).unwrap_or_else(|| "could not be fetched".into());
            return Err(e).with_context(|| format!("{uri}: {what}"));
        }
    };
    check(&path, meter.expected.load(Ordering::Relaxed)).with_context(|| format!("{uri}: did not arrive whole"))?;
    Ok(path)
}

/// Whether `text` can be the name of an owner or a repository.
fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !matches!(text, "" | "." | "..")
}

/// Whether `text` can be a path inside a repository.
fn is_relative(text: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..");
    text.split('/').all(part) && !text.contains(|c: char| c.is_control() || matches!(c, '\\' | ':'))
}

impl Remote {
    /// Takes a name apart; its pieces become parts of paths in the cache, so they are held to what a
    /// repository can contain.
    pub fn parse(uri: &str) -> Result<Self> {
        let wanted = || format!("{uri}: is not of the form hf://owner/name[@revision]/path/in/repo.safetensors");
        let rest = uri.strip_prefix(SCHEME).with_context(wanted)?;
        let (owner, rest) = rest.split_once('/').with_context(wanted)?;
        let (name, file) = rest.split_once('/').with_context(wanted)?;
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        // A slash in a branch's name would end it here.
        let revision = revision.replace("%2F", "/").replace("%2f", "/");
        if !is_word(owner) || !is_word(name) || !is_relative(&revision) || !is_relative(file) {
            bail!(wanted());
        }
        if matches!(owner, "datasets" | "spaces") {
            bail!("{uri}: names no model repository but one of the {owner}");
        }
        Ok(Self { owner: owner.into(), name: name.into(), revision, file: file.into() })
    }
}

impl DataSet {
    /// Takes a name apart, as [`Remote::parse`] does.
    pub fn parse(uri: &str) -> Result<Self> {
        let wanted = || format!("{uri}: is not of the form hf://owner/name[@revision][#split]");
        let rest = uri.strip_prefix(SCHEME).with_context(wanted)?;
        let (rest, split) = rest.split_once('#').unwrap_or((rest, "train"));
        let (owner, name) = rest.strip_prefix("datasets/").unwrap_or(rest).split_once('/').with_context(wanted)?;
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let revision = revision.replace("%2F", "/").replace("%2f", "/");
        if !is_word(owner) || !is_word(name) || !is_relative(&revision) || !is_word(split) {
            bail!(wanted());
        }
        Ok(Self { owner: owner.into(), name: name.into(), revision, split: split.into() })
    }
}

/// Whether the environment forbids requests, in the words of the hub's own programs.
fn offline() -> bool {
    let value = std::env::var("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_uppercase();
    matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
}

/// Compares what arrived with what was announced, and takes it out of the cache where they differ.
///
/// The client does not look at the status of the answer that carries the file: an error page would
/// stay in the cache in its place. Files of any size are kept under their SHA-256.
fn check(path: &Path, expected: u64) -> Result<()> {
    let blob = path.canonicalize()?;
    let size = blob.metadata()?.len();
    let announced = blob.file_name().and_then(|name| name.to_str());
    let announced = announced.filter(|name| name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit()));
    let fault = if expected > 0 && size != expected {
        format!("{size} bytes of {expected}")
    } else {
        match announced {
            Some(sum) if !sum.eq_ignore_ascii_case(&sha256(&blob)?) => "its SHA-256 differs".into(),
            _ => return Ok(()),
        }
    };
    for file in [path, &blob] {
        if file.symlink_metadata().is_ok() {
            std::fs::remove_file(file)?;
        }
    }
    bail!("{fault}; run again")
}

fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    loop {
        let part = file.fill_buf()?;
        if part.is_empty() {
            break;
        }
        hash.update(part);
        let read = part.len();
        file.consume(read);
    }
    let mut hex = String::new();
    for byte in hash.finalize() {
        write!(hex, "{byte:02x}")?;
    }
    Ok(hex)
}

/// Shows how far a download is, and keeps the size that was announced (0 for none).
struct Meter {
    bar: ProgressBar,
    expected: AtomicU64,
}

impl Meter {
    fn new(label: &str) -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{prefix} {bar:24} {bytes}/{total_bytes} | left {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(label.to_string());
        Self { bar, expected: AtomicU64::new(0) }
    }
}

impl ProgressHandler for Meter {
    fn on_progress(&self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Download(DownloadEvent::Start { total_bytes, .. }) => {
                self.expected.store(*total_bytes, Ordering::Relaxed);
                self.bar.set_length(*total_bytes);
            }
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                files.iter().for_each(|file| self.bar.set_position(file.bytes_completed));
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress { bytes_completed, .. }) => {
                self.bar.set_position(*bytes_completed);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() -> Result<()> {
        let remote = |owner: &str, name: &str, revision: &str, file: &str| Remote {
            owner: owner.into(),
            name: name.into(),
            revision: revision.into(),
            file: file.into(),
        };
        assert_eq!(Remote::parse("hf://o/n/w.safetensors")?, remote("o", "n", "main", "w.safetensors"));
        assert_eq!(Remote::parse("hf://o-1/n.2@v1.0/a/b@c.pth")?, remote("o-1", "n.2", "v1.0", "a/b@c.pth"));
        assert_eq!(Remote::parse("hf://o/n@refs%2Fpr%2f1/w")?, remote("o", "n", "refs/pr/1", "w"));
        Ok(())
    }

    #[test]
    fn what_is_no_name_of_a_file_is_refused() {
        let form = "is not of the form hf://owner/name[@revision]/path/in/repo.safetensors";
        for uri in [
            "hf://",
            "hf://o",
            "hf://o/n",
            "hf://o/n/",
            "hf:///n/w",
            "hf://o//w",
            "hf://o/n@/w",
            "hf://o/n@../w",
            "hf://o/n@a%2F..%2Fb/w",
            "hf://../n/w",
            "hf://o/n/../../w",
            "hf://o/n//w",
            "hf://o/n/a\\b",
            "hf://o/n/c:w",
            "hf://o/n/a\nb",
            "hf://o/n?x/w",
        ] {
            let e = Remote::parse(uri).map_err(|e| e.to_string());
            assert_eq!(e, Err(format!("{uri}: {form}")));
        }
        let e = Remote::parse("hf://datasets/o/n/w").map_err(|e| e.to_string());
        assert_eq!(e, Err("hf://datasets/o/n/w: names no model repository but one of the datasets".into()));
    }

    #[test]
    fn data_sets_have_revisions_and_splits() -> Result<()> {
        let set = |revision: &str, split: &str| DataSet {
            owner: "o".into(),
            name: "n".into(),
            revision: revision.into(),
            split: split.into(),
        };
        assert_eq!(DataSet::parse("hf://o/n")?, set("main", "train"));
        assert_eq!(DataSet::parse("hf://datasets/o/n#test")?, set("main", "test"));
        assert_eq!(DataSet::parse("hf://o/n@v1.0#validation")?, set("v1.0", "validation"));
        for bad in ["hf://o", "hf://o/n/x", "hf://o/n#", "hf://o/n#a/b", "hf://o/n@../x", "hf:///n"] {
            assert!(DataSet::parse(bad).is_err(), "{bad}");
        }
        Ok(())
    }
}
