//! `--weights hf://…` against a hub on the loopback interface.
#![cfg(feature = "hub")]

use candle_core::{DType, Device};
use selfpatch_nn::{Params, weights};
use selfpatch_vit::{Vit, VitConfig};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

type Outcome = Result<(), Box<dyn Error>>;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Asks for another patch than the served file has: quickly refused, after it was read.
const MISFIT: [&str; 2] = ["--patch-size", "16"];
const MISFIT_ANSWER: &str = "safetensors has patches of 32 pixels";

/// What is served under one path.
#[derive(Clone)]
struct Served {
    etag: String,
    /// The size that HEAD states.
    size: usize,
    /// The status and the body of GET.
    answer: (&'static str, Vec<u8>),
}

impl Served {
    /// A whole file, named by its SHA-256 as files of any size are.
    fn whole(body: &[u8]) -> Self {
        let etag = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { etag, size: body.len(), answer: ("200 OK", body.to_vec()) }
    }
}

/// A hub: answers HEAD and GET, writes down who asked for what, ends when dropped.
struct Hub {
    address: SocketAddr,
    /// `METHOD path authorization`.
    requests: Arc<Mutex<Vec<String>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    fn start(files: BTreeMap<String, Served>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (requests, end) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stop) = (Arc::clone(&requests), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !stop.load(Ordering::SeqCst)) {
                // A client that goes away is none of the server's business.
                let _ = stream.and_then(|stream| answer(&stream, &files, &log));
            }
        });
        Ok(Self { address, requests, end, thread: Some(thread) })
    }

    fn serving(path: &str, file: Served) -> std::io::Result<Self> {
        Self::start(BTreeMap::from([(path.to_string(), file)]))
    }

    /// The requests since the last call.
    fn requests(&self) -> Vec<String> {
        self.requests.lock().map(|mut log| std::mem::take(&mut *log)).unwrap_or_default()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(stream: &TcpStream, files: &BTreeMap<String, Served>, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut token = String::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((header, value)) = line.split_once(": ")
            && header.eq_ignore_ascii_case("authorization")
        {
            token = format!(" {value}");
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if let Ok(mut log) = log.lock() {
        log.push(format!("{method} {path}{token}"));
    }
    let common = format!("X-Repo-Commit: {COMMIT}\r\nConnection: close\r\n");
    let mut stream = stream;
    match (files.get(path), method) {
        (None, _) => write!(stream, "HTTP/1.1 404 Not Found\r\n{common}Content-Length: 0\r\n\r\n"),
        (Some(Served { etag, size, .. }), "HEAD") => {
            write!(stream, "HTTP/1.1 200 OK\r\n{common}ETag: \"{etag}\"\r\nContent-Length: {size}\r\n\r\n")
        }
        (Some(Served { etag, answer: (status, body), .. }), _) => {
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\n{common}ETag: \"{etag}\"\r\nContent-Length: {length}\r\n\r\n")?;
            stream.write_all(body)
        }
    }
}

/// An empty folder of this test's own.
fn folder(test: &str) -> std::io::Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hub-{test}"));
    if path.exists() {
        std::fs::remove_dir_all(&path)?;
    }
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// The bytes of a small backbone's file.
fn backbone(folder: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let params = Params::frozen(0);
    Vit::new(&VitConfig::new(8, 1, 1, 32), params.builder(DType::F32, &Device::Cpu))?;
    let path = folder.join("made.safetensors");
    let tensors: Vec<_> = params.tensors().into_iter().collect();
    weights::write_safetensors(&path, &tensors, &[("num_heads".into(), "1".into())])?;
    Ok(std::fs::read(path)?)
}

/// The program with a cache of its own and nothing of this machine's access to a hub.
fn selfpatch(cache: &Path, hub: SocketAddr, weights: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfpatch"));
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE", "HF_TOKEN_PATH"] {
        command.env_remove(variable);
    }
    command.env("HF_ENDPOINT", format!("http://{hub}")).env("HF_HUB_CACHE", cache).env("HF_HOME", cache);
    command.env("HF_TOKEN", "sesame").env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    command.args(["eval-davis", "--device", "cpu", "--weights", weights]);
    command
}

/// The error of a run that must fail.
fn error(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An address at which nobody answers.
fn nobody() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

#[test]
fn fetches_once_and_then_works_offline() -> Outcome {
    let folder = folder("offline")?;
    let hub = Hub::serving("/owner/name/resolve/main/deep/vit.safetensors", Served::whole(&backbone(&folder)?))?;
    let run = || selfpatch(&folder, hub.address, "hf://owner/name/deep/vit.safetensors");

    let first = error(&run().args(MISFIT).output()?);
    assert!(first.contains(MISFIT_ANSWER), "{first}");
    let path = "/owner/name/resolve/main/deep/vit.safetensors Bearer sesame";
    assert_eq!(hub.requests(), [format!("HEAD {path}"), format!("GET {path}")]);

    let second = error(&run().args(MISFIT).output()?);
    assert_eq!(second, first);
    assert!(hub.requests().is_empty());

    let mut run = run();
    drop(hub);
    let output = run.arg("--json").output()?;
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert!(report.is_object(), "{report}");
    Ok(())
}

#[test]
fn a_revision_is_asked_for() -> Outcome {
    let folder = folder("revision")?;
    let file = Served::whole(&backbone(&folder)?);
    let path = |revision: &str| format!("/o/n/resolve/{revision}/vit.safetensors");
    let hub = Hub::start([COMMIT, "pr%2F1"].map(|revision| (path(revision), file.clone())).into())?;
    for revision in ["pr%2F1", COMMIT] {
        let weights = format!("hf://o/n@{revision}/vit.safetensors");
        let e = error(&selfpatch(&folder, hub.address, &weights).args(MISFIT).output()?);
        assert!(e.contains(MISFIT_ANSWER), "{e}");
        let asked = hub.requests();
        if revision == COMMIT {
            // The branch's commit, so already here.
            assert!(asked.is_empty(), "{asked:?}");
        } else {
            assert_eq!(asked.len(), 2, "{asked:?}");
            assert!(asked.iter().all(|request| request.contains(&path(revision))), "{asked:?}");
        }
    }

    // A commit alone, into another cache.
    let (cache, weights) = (folder.join("other"), format!("hf://o/n@{COMMIT}/vit.safetensors"));
    for requests in [2, 0] {
        let e = error(&selfpatch(&cache, hub.address, &weights).args(MISFIT).output()?);
        assert!(e.contains(MISFIT_ANSWER), "{e}");
        assert_eq!(hub.requests().len(), requests);
    }
    Ok(())
}

#[test]
fn what_the_hub_has_not_is_an_error_until_it_has() -> Outcome {
    let folder = folder("absent")?;
    let hub = Hub::start(BTreeMap::new())?;
    let e = error(&selfpatch(&folder, hub.address, "hf://o/n/none.safetensors").output()?);
    let expected = "error: hf://o/n/none.safetensors: the hub answers 404 Not Found: no file none.safetensors at \
                    revision main of o/n, or no such revision or repository\n";
    assert_eq!(e, expected);

    let hub = Hub::serving("/o/n/resolve/main/none.safetensors", Served::whole(&backbone(&folder)?))?;
    let e = error(&selfpatch(&folder, hub.address, "hf://o/n/none.safetensors").args(MISFIT).output()?);
    assert!(e.contains(MISFIT_ANSWER), "{e}");
    Ok(())
}

#[test]
fn what_is_not_here_needs_the_hub() -> Outcome {
    let folder = folder("unreachable")?;
    let e = error(&selfpatch(&folder, nobody()?, "hf://o/n/w.safetensors").output()?);
    let expected = format!("hf://o/n/w.safetensors: is not in the cache {}, and the hub does not", folder.display());
    assert!(e.contains(&expected), "{e}");

    let e = error(&selfpatch(&folder, nobody()?, "hf://o/n/w.safetensors").env("HF_HUB_OFFLINE", "1").output()?);
    assert!(e.contains("HF_HUB_OFFLINE forbids"), "{e}");

    let mut run = selfpatch(&folder, nobody()?, "hf://o/n/w.safetensors");
    let e = error(&run.env("HF_ENDPOINT", "not an address").output()?);
    assert!(e.contains("is HF_ENDPOINT right?"), "{e}");
    Ok(())
}

#[test]
fn what_arrives_broken_is_not_kept() -> Outcome {
    let folder = folder("broken")?;
    let path = "/o/n/resolve/main/vit.safetensors";
    let whole = Served::whole(&backbone(&folder)?);
    let refused = Served { answer: ("403 Forbidden", b"no".to_vec()), ..whole.clone() };
    let mut flipped = whole.clone();
    if let Some(byte) = flipped.answer.1.last_mut() {
        *byte ^= 1;
    }
    for (file, says) in [
        (refused, format!("did not arrive whole: 2 bytes of {}; run again", whole.size)),
        (flipped, "did not arrive whole: its SHA-256 differs; run again".into()),
        (whole, MISFIT_ANSWER.into()),
    ] {
        let hub = Hub::serving(path, file)?;
        let e = error(&selfpatch(&folder, hub.address, "hf://o/n/vit.safetensors").args(MISFIT).output()?);
        assert!(e.contains(&says), "{e}");
        assert_eq!(hub.requests().len(), 2);
    }
    Ok(())
}

#[test]
fn malformed_names_are_refused_before_anything_is_asked() -> Outcome {
    let folder = folder("malformed")?;
    let hub = Hub::start(BTreeMap::new())?;
    let e = error(&selfpatch(&folder, hub.address, "hf://owner/w.safetensors").output()?);
    let form = "is not of the form hf://owner/name[@revision]/path/in/repo.safetensors";
    assert_eq!(e, format!("error: hf://owner/w.safetensors: {form}\n"));
    assert!(hub.requests().is_empty());
    Ok(())
}
