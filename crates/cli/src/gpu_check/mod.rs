//! `selfpatch gpu-check`: all that a GPU has to show, in one call that ends in time.
//!
//! This process computes nothing: it gives jobs to workers ([`worker`]), which are this program again ([`serve`]) and
//! the PyTorch peer (`peer.py`), and writes what they answer ([`report`]). So whatever runs out of memory, hangs or
//! dies costs one line of the report.

mod clock;
mod facts;
mod fixtures;
mod job;
mod peers;
mod report;
mod rounds;
mod serve;
mod speed;
mod table;
mod training;
mod worker;

use crate::bounds::integer;
use crate::parity::Outcome;
use crate::signals;
use anyhow::{Context, Result, anyhow, ensure};
use clock::Clock;
use job::Job;
use peers::Peers;
use report::{Parity, Report, Run, Training};
use selfpatch_train::config::Precision;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use training::Comparison;
use worker::Worker;

/// What `gpu-check` was asked to do.
#[derive(clap::Args)]
pub struct Args {
    /// `cuda`, `cuda:N`; or `cpu`, to try the check
    #[arg(long, default_value = "cuda")]
    device: String,
    /// Folder for gpu-report.json and gpu-report.md
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Time after which it ends, with what it has by then
    #[arg(long, value_name = "M", default_value_t = 9.)]
    minutes: f64,
    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Shapes that cost nothing and few steps, to try the check
    #[arg(long)]
    quick: bool,
    /// The Python whose PyTorch is measured beside ours
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// Folder of fixtures [default: those in the program, or in the repository]
    #[arg(long, value_name = "DIR")]
    fixtures: Option<PathBuf>,
    /// Threads of the CPU [default: one per core]
    #[arg(long, value_name = "N", value_parser = integer(1, 1024))]
    threads: Option<usize>,
    /// Do jobs from standard input
    #[arg(long, hide = true)]
    worker: bool,
}

/// Precisions in which numbers are compared.
const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// A part of the check.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The fixtures of the original program
    Parity,
    /// Loss curves beside the CPU's
    Train,
    /// Training steps beside PyTorch's
    Speed,
}

/// Runs all parts, writes the report after each, and says whether parity and training passed.
pub fn run(args: &Args) -> Result<bool> {
    if args.worker {
        return serve::serve(&args.device);
    }
    ensure!(args.minutes > 0. && args.minutes <= 1440., "--minutes: must be above 0 and at most 1440");
    let work = Work::new()?;
    signals::before_end(work.cleaner(&args.out)).context("signal handlers")?;
    let mut check = Check::new(args, &work.0)?;
    check.device()?;
    for part in [Part::Parity, Part::Train, Part::Speed] {
        if !check.wants(part) {
            continue;
        }
        match part {
            Part::Parity => check.parity()?,
            Part::Train => check.training()?,
            Part::Speed => check.speed()?,
        }
    }
    check.end()
}

/// The check while it runs.
struct Check<'a> {
    args: &'a Args,
    work: &'a Path,
    clock: Clock,
    ours: Worker,
    /// PyTorch, if it is to be measured.
    peers: Option<Peers>,
    report: Report,
}

impl<'a> Check<'a> {
    fn new(args: &'a Args, work: &'a Path) -> Result<Self> {
        let clock = Clock::new(Duration::from_secs_f64(60. * args.minutes));
        let ours = this_program(&args.device, args, work)?;
        Ok(Self { args, work, clock, ours, peers: None, report: Report::new(args.minutes, args.quick) })
    }

    fn wants(&self, part: Part) -> bool {
        self.args.only.is_empty() || self.args.only.contains(&part)
    }

    fn save(&mut self) -> Result<()> {
        self.report.seconds = self.clock.passed();
        self.report.save(&self.args.out)
    }

    fn device(&mut self) -> Result<()> {
        let side = if self.args.quick || self.args.device == "cpu" { 256 } else { 8192 };
        let facts = self.ours.ask(&Job::Device { side }, &[], self.clock.share(0.5)).map_err(|e| anyhow!(e))?;
        say!("{}", table::device(&facts));
        self.report.device = Some(facts);
        if self.wants(Part::Speed) {
            self.peers = Some(Peers::start(self.args, self.work)?);
        }
        self.save()
    }

    fn parity(&mut self) -> Result<()> {
        let fixtures = fixtures::folder(self.args.fixtures.as_deref(), self.work)?;
        for precision in PRECISIONS {
            let job = Job::Parity { autocast: precision, fixtures: fixtures.clone() };
            let outcome: Result<Outcome, String> = self.ours.ask(&job, &[], self.clock.share(0.3));
            say!("\nparity in {}", table::name(precision));
            if let Ok(outcome) = &outcome {
                outcome.print();
            }
            let parity = Parity { precision, outcome: outcome.into() };
            say!("{}", table::parity(&parity));
            self.report.parity.push(parity);
            self.save()?;
        }
        Ok(())
    }

    fn training(&mut self) -> Result<()> {
        let steps = if self.args.quick { 5 } else { 200 };
        let job = |autocast, folder: &str| Job::Train { autocast, steps, folder: self.work.join(folder) };
        let mut on_cpu = this_program("cpu", self.args, self.work)?;
        on_cpu.give(&job(Precision::F32, "cpu"), &[]);
        let limit = self.clock.at(self.clock.share(0.5));
        let curves =
            PRECISIONS.map(|p| self.ours.ask(&job(p, "gpu"), &[], self.clock.share(0.3)).and_then(training::finite));
        let cpu = on_cpu.answer(limit).and_then(training::finite);
        let mut training = Training { steps, cpu: cpu.clone().into(), runs: Vec::new() };
        say!("\n{steps} steps of the default recipe, beside the CPU's in f32");
        for (precision, curve) in PRECISIONS.into_iter().zip(curves) {
            let cpu = cpu.as_deref().map_err(|e| format!("the CPU's curve: {e}"));
            let compared = cpu.and_then(|cpu| Ok(Comparison::of(precision, curve?, cpu)));
            let run = Run { precision, outcome: compared.into() };
            say!("{}: {}", table::name(precision), table::curve(&run));
            training.runs.push(run);
        }
        self.report.training = Some(training);
        self.save()
    }

    fn speed(&mut self) -> Result<()> {
        say!("\ntraining steps, ours and PyTorch's in turn");
        let Some(peers) = &mut self.peers else { return Ok(()) };
        let mut save = |report: &mut Report| {
            report.seconds = self.clock.passed();
            report.save(&self.args.out)
        };
        rounds::run(self.args.quick, &mut self.ours, peers, &self.clock, &mut self.report, &mut save)
    }

    /// Prints the tables; whether what was wanted has passed.
    fn end(mut self) -> Result<bool> {
        let (parity, training) = (self.wants(Part::Parity), self.wants(Part::Train));
        let passed = self.report.finish(parity, training);
        self.save()?;
        say!("\n{}", table::markdown(&self.report));
        say!("wrote {} and gpu-report.md beside it", self.args.out.join(report::JSON).display());
        Ok(passed)
    }
}

/// This program as a worker.
fn this_program(device: &str, args: &Args, work: &Path) -> Result<Worker> {
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let mut arguments: Vec<OsString> = ["gpu-check", "--worker", "--device", device].map(OsString::from).to_vec();
    if let Some(threads) = args.threads {
        arguments.extend(["--threads".into(), threads.to_string().into()]);
    }
    Ok(Worker::new(program, arguments, work.join(format!("{}.log", device.replace(':', "-")))))
}

/// A folder for what is not part of the result.
struct Work(PathBuf);

impl Work {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("selfpatch-gpu-check-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(folder))
    }

    /// Removes it, and what of the report is being written, when a signal ends the check.
    fn cleaner(&self, out: &Path) -> impl FnOnce() + Send + use<> {
        let (work, parts) = (self.0.clone(), report::parts(out));
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
