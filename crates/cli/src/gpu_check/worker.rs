//! A process that does one job after the other: this program, or the PyTorch peer. What measures may run out of
//! memory, hang or die on a GPU; the check goes on, and ends in time.

use super::job::Job;
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How to start the process, and the process while it runs.
pub struct Worker {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Where it complains.
    log: PathBuf,
    running: Option<Running>,
    /// Why it could not be started.
    failure: Option<String>,
}

struct Running {
    child: Child,
    answers: Receiver<String>,
}

/// What came of a job.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer<T> {
    /// Nothing.
    Failed {
        /// Why, in a sentence.
        error: String,
    },
    /// What was asked for.
    Done(T),
}

impl<T> From<Result<T, String>> for Answer<T> {
    fn from(result: Result<T, String>) -> Self {
        result.map_or_else(|error| Self::Failed { error }, Self::Done)
    }
}

impl Worker {
    /// One that is started with the first job.
    pub fn new(program: impl Into<PathBuf>, arguments: Vec<OsString>, log: PathBuf) -> Self {
        Self { program: program.into(), arguments, log, running: None, failure: None }
    }

    /// Gives a job, with more fields for the peer. What goes wrong is told by [`Worker::answer`].
    pub fn give(&mut self, job: &Job, more: &[(&str, &str)]) {
        self.failure = self.given(job, more).err().map(|e| crate::error::plain(&e));
    }

    fn given(&mut self, job: &Job, more: &[(&str, &str)]) -> Result<()> {
        let mut line = serde_json::to_value(job)?;
        more.iter().for_each(|(key, value)| line[*key] = Value::from(*value));
        if self.running.is_none() {
            self.running = Some(self.start()?);
        }
        if let Some(input) = self.running.as_mut().and_then(|r| r.child.stdin.as_mut()) {
            // A process that has ended is noticed when it does not answer.
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
        Ok(())
    }

    fn start(&self) -> Result<Running> {
        let log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let started = command.spawn().with_context(|| format!("{} could not be started", self.program.display()));
        let mut child = started?;
        let (send, answers) = channel();
        let output = child.stdout.take().context("a worker has no output")?;
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(|line| line.ok());
            lines.take_while(|line| send.send(line.clone()).is_ok()).for_each(drop);
        });
        Ok(Running { child, answers })
    }

    /// The answer to the job that was given, or in a sentence why there is none. A process that does not answer until
    /// `deadline` is stopped; the next job starts another.
    pub fn answer<T: DeserializeOwned>(&mut self, deadline: Instant) -> Result<T, String> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let Some(running) = &mut self.running else { return Err("it was given nothing to do".into()) };
        let left = deadline.saturating_duration_since(Instant::now());
        match running.answers.recv_timeout(left) {
            Ok(line) => match serde_json::from_str(&line) {
                Ok(Answer::Done(done)) => Ok(done),
                Ok(Answer::Failed { error }) => {
                    // What is left of memory, or of a GPU's state, nobody knows.
                    self.stop();
                    Err(error)
                }
                Err(e) => Err(format!("{} answered {line:?} ({e})", self.program.display())),
            },
            Err(RecvTimeoutError::Timeout) => {
                self.stop();
                Err(format!("stopped after {:.0} s", left.as_secs_f64()))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = running.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
                self.running = None;
                Err(format!("{} ended ({status}){}", self.program.display(), self.complaint()))
            }
        }
    }

    /// Both in turn.
    pub fn ask<T: DeserializeOwned>(&mut self, job: &Job, more: &[(&str, &str)], most: Duration) -> Result<T, String> {
        self.give(job, more);
        self.answer(Instant::now() + most)
    }

    /// The last thing that the process wrote.
    fn complaint(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let said = text.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("note: "));
        said.map(|line| format!(": {line}")).unwrap_or_default()
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}
