//! A hub on the loopback interface, and the program beside it.

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

pub type Outcome = Result<(), Box<dyn Error>>;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What is served under one path.
#[derive(Clone)]
pub struct Served {
    pub etag: String,
    /// The size that HEAD states.
    pub size: usize,
    /// The status and the body of GET.
    pub answer: (&'static str, Vec<u8>),
}

impl Served {
    /// A whole file, named by its SHA-256 as files of any size are.
    pub fn whole(body: &[u8]) -> Self {
        let etag = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { etag, size: body.len(), answer: ("200 OK", body.to_vec()) }
    }
}

/// A hub: answers HEAD and GET, writes down who asked for what, ends when dropped.
pub struct Hub {
    pub address: SocketAddr,
    /// `METHOD path authorization`.
    requests: Arc<Mutex<Vec<String>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    pub fn start(files: BTreeMap<String, Served>) -> std::io::Result<Self> {
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

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<String> {
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
pub fn folder(test: &str) -> std::io::Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hub-{test}"));
    if path.exists() {
        std::fs::remove_dir_all(&path)?;
    }
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// The program with a cache of its own and nothing of this machine's access to a hub.
pub fn alone(cache: &Path, hub: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfpatch"));
    let proxies = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let hub_own = ["HF_HUB_OFFLINE", "HF_TOKEN_PATH", "HF_HUB_DISABLE_IMPLICIT_TOKEN"];
    for variable in proxies.iter().chain(&hub_own) {
        command.env_remove(variable);
    }
    command.env("HF_ENDPOINT", format!("http://{hub}")).env("HF_HUB_CACHE", cache).env("HF_HOME", cache);
    command.env("SELFPATCH_CACHE", cache.join("selfpatch"));
    command.env("HF_TOKEN", "sesame").env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    command
}

/// The error of a run that must fail.
pub fn error(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An address at which nobody answers.
pub fn nobody() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
