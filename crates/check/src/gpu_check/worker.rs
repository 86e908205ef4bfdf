//! A process that does one job after the other: this program, or the PyTorch peer. What measures may run out of
//! memory, hang or die on a GPU; the check goes on, and ends in time.

use super::job::Job;
use anyhow::{Context, Result};
use selfpatch_output::plain;
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

/// The error of a job that needs more memory than the device has. The process does further jobs.
pub const OUT_OF_MEMORY: &str = "out of memory";
/// Characters of an answer that are quoted.
const QUOTED: usize = 200;

/// How a process is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// The program to start.
    pub program: PathBuf,
    /// Arguments of the program.
    pub arguments: Vec<OsString>,
}

/// How to start the process, and the process while it runs.
pub struct Worker {
    start: Start,
    /// File that the process writes its complaints to.
    log: PathBuf,
    running: Option<Running>,
    /// The job that was given last.
    job: String,
    /// Why the process could not be started.
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
    /// A job without a result.
    Failed {
        /// Why the job failed, in a sentence.
        error: String,
    },
    /// The result that was asked for.
    Done(T),
}

impl<T> From<Result<T, String>> for Answer<T> {
    fn from(result: Result<T, String>) -> Self {
        result.map_or_else(|error| Self::Failed { error }, Self::Done)
    }
}

impl Worker {
    /// A worker whose process is started with the first job.
    pub fn new(start: Start, log: PathBuf) -> Self {
        Self { start, log, running: None, job: String::new(), failure: None }
    }

    /// Gives a job, with more fields for the peer. What goes wrong is told by [`Worker::answer`].
    pub fn give(&mut self, job: &Job, more: &[(&str, &str)]) {
        self.failure = self.given(job, more).err().map(|e| plain(e.as_ref()));
    }

    fn given(&mut self, job: &Job, more: &[(&str, &str)]) -> Result<()> {
        let mut line = serde_json::to_value(job)?;
        more.iter().for_each(|(key, value)| line[*key] = Value::from(*value));
        self.job = line.to_string();
        self.send()
    }

    fn send(&mut self) -> Result<()> {
        if self.running.is_none() {
            self.running = Some(self.started()?);
        }
        if let Some(input) = self.running.as_mut().and_then(|r| r.child.stdin.as_mut()) {
            // A process that has ended is noticed when it does not answer.
            let _ = writeln!(input, "{}", self.job).and_then(|()| input.flush());
        }
        Ok(())
    }

    fn started(&self) -> Result<Running> {
        let log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let mut command = Command::new(&self.start.program);
        command.args(&self.start.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let started = command.spawn().with_context(|| format!("{} could not be started", self.start.program.display()));
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
    /// `deadline`, or whose job failed, is stopped; the next job starts another.
    pub fn answer<T: DeserializeOwned>(&mut self, deadline: Instant) -> Result<T, String> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let answer = self.line(deadline).and_then(|line| match serde_json::from_str(&line) {
            Ok(Answer::Done(done)) => Ok(done),
            Ok(Answer::Failed { error }) => Err(error),
            Err(e) => {
                let quoted: String = line.chars().take(QUOTED).collect();
                Err(format!("{} answered {quoted:?} ({e})", self.start.program.display()))
            }
        });
        if answer.as_ref().is_err_and(|error| error != OUT_OF_MEMORY) {
            // What is left of a GPU's state, nobody knows.
            self.stop();
        }
        answer
    }

    /// The line that answers the job. A process that left after the job before, as it does when it cannot give memory
    /// back, is replaced once.
    fn line(&mut self, deadline: Instant) -> Result<String, String> {
        let mut replaced = false;
        loop {
            let Some(running) = &mut self.running else { return Err("it was given nothing to do".into()) };
            let left = deadline.saturating_duration_since(Instant::now());
            match running.answers.recv_timeout(left) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) => return Err(format!("stopped after {:.0} s", left.as_secs_f64())),
                Err(RecvTimeoutError::Disconnected) => {}
            }
            let status = running.child.wait();
            self.running = None;
            if replaced || !status.as_ref().is_ok_and(|status| status.success()) {
                let status = status.map_or_else(|e| e.to_string(), |status| status.to_string());
                return Err(format!("{} ended ({status}){}", self.start.program.display(), self.complaint()));
            }
            replaced = true;
            self.send().map_err(|e| plain(e.as_ref()))?;
        }
    }

    /// Gives a job and waits for its answer, for no longer than `most`.
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A worker that is a shell script.
    fn asked(script: &str, jobs: usize) -> Result<Vec<Result<u32, String>>> {
        let folder = tempfile::tempdir()?;
        let start = Start { program: "sh".into(), arguments: ["-c", script].map(OsString::from).to_vec() };
        let mut worker = Worker::new(start, folder.path().join("log"));
        let most = Duration::from_secs(60);
        Ok((0..jobs).map(|_| worker.ask(&Job::Device { side: 1 }, &[], most)).collect())
    }

    #[test]
    fn a_process_that_left_after_its_job_is_replaced_once() -> Result<()> {
        assert_eq!(asked("read job; echo 7", 2)?, [Ok(7), Ok(7)]);
        assert!(matches!(&asked("exit 0", 1)?[..], [Err(e)] if e.starts_with("sh ended (exit status: 0)")));
        let died = "read job; echo no more >&2; exit 3";
        assert_eq!(asked(died, 1)?, [Err("sh ended (exit status: 3): no more".into())]);
        Ok(())
    }

    #[test]
    fn only_running_out_of_memory_keeps_the_process() -> Result<()> {
        let fails = |error: &str| format!(r#"read job; echo '{{"error":"{error}"}}'; read job; echo 7"#);
        assert_eq!(asked(&fails(OUT_OF_MEMORY), 2)?, [Err(OUT_OF_MEMORY.into()), Ok(7)]);
        assert_eq!(asked(&fails("broken"), 2)?, [Err("broken".into()), Err("broken".into())]);
        Ok(())
    }

    #[test]
    fn of_a_line_without_sense_the_beginning_is_quoted() -> Result<()> {
        let answers = asked("read job; head -c 9999 /dev/zero | tr '\\0' x; echo", 1)?;
        let quoted = format!("sh answered \"{}\" (", "x".repeat(QUOTED));
        assert!(matches!(&answers[..], [Err(e)] if e.starts_with(&quoted)), "{answers:?}");
        Ok(())
    }
}
