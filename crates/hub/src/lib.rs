//! Files of models and data sets on the Hugging Face hub: `hf://owner/name[@revision]/path/in/repo` and
//! `hf://owner/name[@revision][#split]`.
//!
//! The local cache is searched first, so a file that was fetched once needs no network again; a branch therefore
//! stays at the commit at which it was first seen. Cache, token and endpoint come from the usual variables
//! (`HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, …).

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

/// Retries of a request that got no answer; they take about a second in total.
const RETRIES: usize = 3;

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
    /// The split, `train` by default; may be preceded by folders.
    pub split: String,
}

impl DataSet {
    /// The commit of `revision` and the names of all files in it, or `None` if the data set has no such revision.
    /// Needs the network.
    pub fn files(&self, revision: &str) -> Result<Option<(String, Vec<String>)>> {
        let uri = format!("{SCHEME}{}/{}", self.owner, self.name);
        if offline() {
            bail!("{uri}: was not fetched before, and HF_HUB_OFFLINE forbids to ask the hub");
        }
        let info = match client(&uri)?.dataset(&*self.owner, &*self.name).info().revision(revision).send() {
            Ok(info) => info,
            Err(HFError::RevisionNotFound { context, .. }) => {
                let code = context.and_then(|c| c.error_code);
                if code.as_deref() == Some("RepoNotFound") {
                    bail!("{uri}: the hub has no such data set, or does not show it to you (HF_TOKEN)");
                }
                return Ok(None);
            }
            Err(e) => return Err(explained(e, &uri)),
        };
        let files = info.siblings.unwrap_or_default().into_iter().map(|s| s.rfilename).collect();
        Ok(Some((info.sha.unwrap_or_else(|| revision.into()), files)))
    }

    /// The local copies of files at a commit.
    pub fn fetch(&self, commit: &str, files: &[String]) -> Result<Vec<PathBuf>> {
        let (owner, name) = (&*self.owner, &*self.name);
        let uri = format!("{SCHEME}datasets/{owner}/{name}");
        let repo = client(&uri)?.dataset(owner, name);
        let fetch = |file: &String| {
            let uri = format!("{uri}/{file}");
            // They come from the network, or from a file in the cache, and become parts of paths.
            if !is_relative(commit) || !is_relative(file) {
                bail!("{uri}: cannot be the name of a file in the cache");
            }
            fetch_from(&uri, &repo, (owner, name), commit, file)
        };
        files.iter().map(fetch).collect()
    }
}

fn client(uri: &str) -> Result<HFClientSync> {
    let mut builder = HFClient::builder().retry_max_attempts(RETRIES);
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    // The client takes this variable with the space around it, and then silently sends none.
    let token = variable("HF_TOKEN");
    if token.trim() != token && !token.trim().is_empty() && variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_empty() {
        builder = builder.token(token.trim());
    }
    builder.build_sync().with_context(|| format!("{uri}: there is no access to the hub; is HF_ENDPOINT right?"))
}

/// An error of the hub in one sentence, with the remedy if one is known.
fn explained(e: HFError, uri: &str) -> anyhow::Error {
    let what = match &e {
        HFError::Request { source, .. } if source.is_connect() || source.is_timeout() => {
            let cache = hf_hub::resolve_cache_dir();
            let cause = anyhow::Chain::new(source).last().map(|cause| format!(" ({cause})")).unwrap_or_default();
            format!("is not in the cache {}, and the hub does not answer{cause}", cache.display())
        }
        HFError::AuthRequired { .. } => "the hub wants a token (HF_TOKEN), or there is no such repository".into(),
        HFError::Forbidden { .. } => "the hub refuses access; the repository may want its terms accepted".into(),
        HFError::RateLimited { .. } => "the hub has had too many requests; wait, or give a token (HF_TOKEN)".into(),
        _ => return anyhow::Error::new(e).context(format!("{uri}: could not be fetched")),
    };
    anyhow::anyhow!("{uri}: {what}")
}

/// The file's copy in the cache, fetched if there is none.
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
        Err(e) => return Err(explained(e, uri)),
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
    /// The local copy of the file, fetched if needed; messages call it `uri`.
    pub fn fetch(&self, uri: &str) -> Result<PathBuf> {
        let Self { owner, name, revision, file } = self;
        fetch_from(uri, &client(uri)?.model(&**owner, &**name), (owner, name), revision, file)
    }

    /// Parses a name. Its pieces become parts of paths in the cache, so they are restricted to what a repository can
    /// contain.
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
    /// Parses the name of a data set, as [`Remote::parse`] does that of a file.
    pub fn parse(uri: &str) -> Result<Self> {
        let wanted = || format!("{uri}: is not of the form hf://owner/name[@revision][#split]");
        let rest = uri.strip_prefix(SCHEME).with_context(wanted)?;
        let (rest, split) = rest.split_once('#').unwrap_or((rest, "train"));
        let (owner, name) = rest.strip_prefix("datasets/").unwrap_or(rest).split_once('/').with_context(wanted)?;
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let revision = revision.replace("%2F", "/").replace("%2f", "/");
        if !is_word(owner) || !is_word(name) || !is_relative(&revision) || !is_relative(split) {
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
        assert_eq!(DataSet::parse("hf://o/n#large/test")?, set("main", "large/test"));
        for bad in ["hf://o", "hf://o/n/x", "hf://o/n#", "hf://o/n#a/../b", "hf://o/n@../x", "hf:///n"] {
            assert!(DataSet::parse(bad).is_err(), "{bad}");
        }
        Ok(())
    }
}
