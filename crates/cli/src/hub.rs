//! Weight files from the model hub: `hf://owner/name[@revision]/path/in/repo`.
//!
//! The local cache is asked first, so that what was fetched once needs no network again; a branch
//! therefore stays at the commit at which it was first seen. Cache, token and endpoint come from the
//! usual variables (`HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, …).
//! Without the cargo feature `hub` every such name is an error that says how to get it.

use anyhow::{Context, Result, bail};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

const SCHEME: &str = "hf://";

/// A file in a model repository.
#[derive(Debug, PartialEq)]
struct Remote {
    owner: String,
    name: String,
    revision: String,
    file: String,
}

/// The file to read for `--weights`: a path as it is, of an `hf://` name its copy in the cache.
pub fn local(weights: &Path) -> Result<Cow<'_, Path>> {
    match weights.to_str() {
        Some(uri) if uri.starts_with(SCHEME) => {
            let remote = Remote::parse(uri)?;
            Ok(Cow::Owned(fetch(uri, &remote)?))
        }
        _ => Ok(Cow::Borrowed(weights)),
    }
}

impl Remote {
    /// Takes a name apart; its pieces become parts of paths in the cache, so they are held to what a
    /// repository can contain.
    fn parse(uri: &str) -> Result<Self> {
        let wanted = || format!("{uri}: is not of the form hf://owner/name[@revision]/path/in/repo.safetensors");
        let rest = uri.strip_prefix(SCHEME).with_context(wanted)?;
        let (owner, rest) = rest.split_once('/').with_context(wanted)?;
        let (name, file) = rest.split_once('/').with_context(wanted)?;
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        // A slash in a branch's name would end it here.
        let revision = revision.replace("%2F", "/").replace("%2f", "/");
        let word = |text: &str| {
            text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !matches!(text, "" | "." | "..")
        };
        let relative = |text: &str| {
            let part = |part: &str| !matches!(part, "" | "." | "..");
            text.split('/').all(part) && !text.contains(|c: char| c.is_control() || matches!(c, '\\' | ':'))
        };
        if !word(owner) || !word(name) || !relative(&revision) || !relative(file) {
            bail!(wanted());
        }
        if matches!(owner, "datasets" | "spaces") {
            bail!("{uri}: names no model repository but one of the {owner}");
        }
        Ok(Self { owner: owner.into(), name: name.into(), revision, file: file.into() })
    }
}

#[cfg(not(feature = "hub"))]
fn fetch(uri: &str, _: &Remote) -> Result<PathBuf> {
    bail!("{uri}: this build has no hub access; cargo xtask adds it by itself, or build with --features hub")
}

#[cfg(feature = "hub")]
use client::fetch;

#[cfg(feature = "hub")]
mod client {
    use super::{Context, Path, PathBuf, Remote, Result, bail};
    use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
    use hf_hub::{HFClient, HFError};
    use indicatif::{ProgressBar, ProgressStyle};
    use sha2::{Digest, Sha256};
    use std::fmt::Write;
    use std::fs::File;
    use std::io::{BufRead, BufReader};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Further tries of a request that got no answer: about a second in all.
    const RETRIES: usize = 3;

    /// The file's copy in the cache, fetched if there is none yet.
    pub fn fetch(uri: &str, remote: &Remote) -> Result<PathBuf> {
        let client = HFClient::builder()
            .retry_max_attempts(RETRIES)
            .build_sync()
            .with_context(|| format!("{uri}: there is no access to the hub; is HF_ENDPOINT right?"))?;
        let repo = client.model(&*remote.owner, &*remote.name);
        let cached =
            repo.download_file().filename(&*remote.file).revision(&*remote.revision).local_files_only(true).send();
        match cached {
            Ok(path) => return Ok(path),
            // The second: it was absent when last asked for, and may have come since.
            Err(HFError::LocalEntryNotFound { .. } | HFError::EntryNotFound { .. }) => {}
            Err(e) => return Err(e).with_context(|| format!("{uri}: the cache cannot be read")),
        }
        let cache = hf_hub::resolve_cache_dir();
        if offline() {
            bail!("{uri}: is not in the cache {}, and HF_HUB_OFFLINE forbids to fetch it", cache.display());
        }
        let meter = Arc::new(Meter::new(uri));
        let fetched = repo
            .download_file()
            .filename(&*remote.file)
            .revision(&*remote.revision)
            .progress(Arc::clone(&meter))
            .send();
        meter.bar.finish_and_clear();
        let path = match fetched {
            Ok(path) => path,
            Err(HFError::EntryNotFound { .. }) => bail!(
                "{uri}: the hub answers 404 Not Found: no file {} at revision {} of {}/{}, or no such revision or \
                 repository",
                remote.file,
                remote.revision,
                remote.owner,
                remote.name
            ),
            Err(e) => {
                let what = match &e {
                    HFError::Request { source, .. } if source.is_connect() || source.is_timeout() => {
                        format!("is not in the cache {}, and the hub does not answer", cache.display())
                    }
                    HFError::AuthRequired { .. } => {
                        "the hub wants a token (HF_TOKEN), or there is no such repository".into()
                    }
                    HFError::Forbidden { .. } => {
                        "the hub refuses access; the repository may want its terms accepted".into()
                    }
                    _ => "could not be fetched".into(),
                };
                return Err(e).with_context(|| format!("{uri}: {what}"));
            }
        };
        check(&path, meter.expected.load(Ordering::Relaxed)).with_context(|| format!("{uri}: did not arrive whole"))?;
        Ok(path)
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
    fn paths_stay_paths() -> Result<()> {
        for path in ["w.safetensors", "hf/o/n/w", "./hf://o/n/w"] {
            assert_eq!(local(Path::new(path))?, Path::new(path));
        }
        Ok(())
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn a_build_without_the_hub_says_so() {
        let e = local(Path::new("hf://o/n/w")).map_err(|e| e.to_string());
        let says = "this build has no hub access; cargo xtask adds it by itself, or build with --features hub";
        assert_eq!(e, Err(format!("hf://o/n/w: {says}")));
    }
}
