//! All that a GPU has to show, in one call that ends in time.
//!
//! The process that calls [`run`] computes nothing: it gives jobs to workers (`worker.rs`), which are the program again
//! ([`serve()`]) and the PyTorch peer (`peer.py`), and writes what they answer (`report.rs`). So whatever runs out of memory, hangs or
//! dies costs one line of the report.

mod clock;
mod facts;
mod fixtures;
mod job;
mod options;
mod peers;
mod report;
mod rounds;
mod save;
mod serve;
mod speed;
mod table;
mod training;
mod worker;

use crate::parity::Outcome;
use anyhow::{Context, Result, anyhow};
use clock::Clock;
use job::Job;
use peers::Peers;
use report::{GpuReport, Parity, Run, Training};
use selfpatch_train::config::Precision;
use std::path::{Path, PathBuf};
use std::time::Duration;
use training::Comparison;
use worker::Worker;

pub use options::{Options, Part, Tell};
pub use serve::{Ended, serve};
pub use worker::Start;

/// Precisions in which numbers are compared.
const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// Runs all parts, writes the report after each, and says whether parity and training passed.
///
/// # Errors
/// A device that does not answer, files that cannot be written. What fails in a part is told in the report.
pub fn run(options: &Options, work: &Work, tell: Tell) -> Result<bool> {
    let mut check = Check::new(options, &work.0);
    check.device(tell)?;
    for part in [Part::Parity, Part::Train, Part::Speed] {
        if !check.wants(part) {
            continue;
        }
        match part {
            Part::Parity => check.parity(tell)?,
            Part::Train => check.training(tell)?,
            Part::Speed => check.speed(tell)?,
        }
    }
    check.end(tell)
}

/// The check while it runs.
struct Check<'a> {
    options: &'a Options,
    work: &'a Path,
    clock: Clock,
    ours: Worker,
    /// PyTorch, if it is to be measured.
    peers: Option<Peers>,
    report: GpuReport,
}

impl<'a> Check<'a> {
    fn new(options: &'a Options, work: &'a Path) -> Self {
        let clock = Clock::new(Duration::from_secs_f64(60. * options.minutes));
        let ours = Worker::new(options.on_device.clone(), work.join("device.log"));
        Self { options, work, clock, ours, peers: None, report: GpuReport::new(options.minutes, options.quick) }
    }

    fn wants(&self, part: Part) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&part)
    }

    fn save(&mut self) -> Result<()> {
        self.report.seconds = self.clock.passed();
        save::save(&self.report, &self.options.out)
    }

    fn device(&mut self, tell: Tell) -> Result<()> {
        let side = if self.options.quick || self.options.device == "cpu" { 256 } else { 8192 };
        let facts = self.ours.ask(&Job::Device { side }, &[], self.clock.share(0.5)).map_err(|e| anyhow!(e))?;
        tell(&table::device(&facts));
        self.report.device = Some(facts);
        if self.wants(Part::Speed) {
            self.peers = Some(Peers::start(self.options, self.work)?);
        }
        self.save()
    }

    fn parity(&mut self, tell: Tell) -> Result<()> {
        let fixtures = fixtures::folder(self.options.fixtures.as_deref(), self.work)?;
        for precision in PRECISIONS {
            let job = Job::Parity { autocast: precision, fixtures: fixtures.clone() };
            let outcome: Result<Outcome, String> = self.ours.ask(&job, &[], self.clock.share(0.3));
            tell(&format!("\nparity in {}", table::name(precision)));
            if let Ok(outcome) = &outcome {
                tell(&outcome.table());
            }
            let parity = Parity { precision, outcome: outcome.into() };
            tell(&table::parity(&parity));
            self.report.parity.push(parity);
            self.save()?;
        }
        Ok(())
    }

    fn training(&mut self, tell: Tell) -> Result<()> {
        let steps = if self.options.quick { 5 } else { 200 };
        let job = |autocast, folder: &str| Job::Train { autocast, steps, folder: self.work.join(folder) };
        let mut on_cpu = Worker::new(self.options.on_cpu.clone(), self.work.join("cpu.log"));
        on_cpu.give(&job(Precision::F32, "cpu"), &[]);
        let limit = self.clock.at(self.clock.share(0.5));
        let curves =
            PRECISIONS.map(|p| self.ours.ask(&job(p, "gpu"), &[], self.clock.share(0.3)).and_then(training::finite));
        let cpu = on_cpu.answer(limit).and_then(training::finite);
        let mut training = Training { steps, cpu: cpu.clone().into(), runs: Vec::new() };
        tell(&format!("\n{steps} steps of the default recipe, beside the CPU's in f32"));
        for (precision, curve) in PRECISIONS.into_iter().zip(curves) {
            let cpu = cpu.as_deref().map_err(|e| format!("the CPU's curve: {e}"));
            let compared = cpu.and_then(|cpu| Ok(Comparison::of(precision, curve?, cpu)));
            let run = Run { precision, outcome: compared.into() };
            tell(&format!("{}: {}", table::name(precision), table::curve(&run)));
            training.runs.push(run);
        }
        self.report.training = Some(training);
        self.save()
    }

    fn speed(&mut self, tell: Tell) -> Result<()> {
        tell("\ntraining steps, ours and PyTorch's in turn");
        let Some(peers) = &mut self.peers else { return Ok(()) };
        let mut save = |report: &mut GpuReport| {
            report.seconds = self.clock.passed();
            save::save(report, &self.options.out)
        };
        rounds::run(self.options.quick, &mut self.ours, peers, &self.clock, &mut self.report, &mut save, tell)
    }

    /// Tells the tables, and returns whether what was wanted has passed.
    fn end(mut self, tell: Tell) -> Result<bool> {
        let (parity, training) = (self.wants(Part::Parity), self.wants(Part::Train));
        let passed = self.report.finish(parity, training);
        self.save()?;
        tell(&format!("\n{}", table::markdown(&self.report)));
        tell(&format!("wrote {} and gpu-report.md beside it", self.options.out.join(save::JSON).display()));
        Ok(passed)
    }
}

/// A folder for what is not part of the result, removed when this is dropped.
pub struct Work(PathBuf);

impl Work {
    /// A new folder, below the folder for temporary files.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("selfpatch-gpu-check-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(folder))
    }

    /// Function that removes the folder and unfinished files of the report in `out`: for a signal that ends the check.
    pub fn cleaner(&self, out: &Path) -> impl FnOnce() + Send + use<> {
        let (work, parts) = (self.0.clone(), save::parts(out));
        move || {
            let _ = std::fs::remove_dir_all(work);
            parts.iter().for_each(|part| _ = std::fs::remove_file(part));
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
