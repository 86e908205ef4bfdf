//! The PyTorch peer as two workers.

use super::job::Job;
use super::worker::{Start, Worker};
use super::{clock::Clock, options::Options};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::Path;

/// The peer's program, which Python reads from a file.
const PEER: &str = include_str!("peer.py");

/// PyTorch in two processes: one that compiles holds memory for longer and dies more easily.
pub struct Peers {
    /// PyTorch without `torch.compile`.
    pub eager: Worker,
    /// PyTorch with `torch.compile`.
    pub compiled: Worker,
}

/// Versions of PyTorch and of its CUDA.
#[derive(Clone, Serialize, Deserialize)]
pub struct Versions {
    torch: String,
    cuda: Option<String>,
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "PyTorch {}", self.torch)
    }
}

impl Peers {
    /// Writes the peer into `work`, and starts the first process: importing PyTorch takes a while.
    pub fn start(options: &Options, work: &Path) -> Result<Self> {
        let file = work.join("peer.py");
        std::fs::write(&file, PEER).with_context(|| file.display().to_string())?;
        let mut arguments: Vec<OsString> = vec!["-W".into(), "ignore".into(), file.into()];
        arguments.extend(["--worker", "--device", &options.device].map(OsString::from));
        if let Some(threads) = options.threads {
            arguments.extend(["--threads".into(), threads.to_string().into()]);
        }
        let start = Start { program: options.python.clone(), arguments };
        let worker = |log: &str| Worker::new(start.clone(), work.join(log));
        let mut peers = Self { eager: worker("eager.log"), compiled: worker("compiled.log") };
        peers.eager.give(&Job::Device { side: 0 }, &[]);
        Ok(peers)
    }

    /// The peer's versions, or why there is no peer.
    pub fn versions(&mut self, clock: &Clock) -> Result<Versions, String> {
        self.eager.answer(clock.at(clock.share(0.3)))
    }
}
