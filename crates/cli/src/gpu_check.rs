//! `selfpatch gpu-check`: all that a GPU has to show, in one call that ends in time.

use crate::bounds::integer;
use crate::{device, signals};
use anyhow::{Context, Result, ensure};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use selfpatch_check::gpu_check::{self, Ended, Options, Part, Start, Work};
use selfpatch_output::plain;
use std::ffi::OsString;
use std::path::PathBuf;

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
    #[arg(long, value_name = "PART", value_delimiter = ',', value_parser = part())]
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

/// The parts with their names and what is said of them.
const PARTS: [(Part, &str, &str); 3] = [
    (Part::Parity, "parity", "The fixtures of the original program"),
    (Part::Train, "train", "Loss curves beside the CPU's"),
    (Part::Speed, "speed", "Training steps beside PyTorch's"),
];

/// Reads the name of a part.
fn part() -> impl TypedValueParser<Value = Part> {
    let names = PARTS.map(|(_, name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(names).try_map(|text| {
        let found = PARTS.into_iter().find(|(_, name, _)| *name == text);
        found.map(|(part, ..)| part).ok_or("there is no such part")
    })
}

/// Runs all parts, or does the jobs of a worker; whether parity and training passed.
pub fn run(args: &Args) -> Result<bool> {
    if args.worker {
        return serve(&args.device);
    }
    ensure!(args.minutes > 0. && args.minutes <= 1440., "--minutes: must be above 0 and at most 1440");
    let work = Work::new()?;
    signals::before_end(work.cleaner(&args.out)).context("signal handlers")?;
    gpu_check::run(&args.options()?, &work, &mut |lines| say!("{lines}"))
}

impl Args {
    fn options(&self) -> Result<Options> {
        Ok(Options {
            device: self.device.clone(),
            on_device: self.this_program(&self.device)?,
            on_cpu: self.this_program("cpu")?,
            out: self.out.clone(),
            minutes: self.minutes,
            only: self.only.clone(),
            quick: self.quick,
            python: self.python.clone(),
            fixtures: self.fixtures.clone(),
            threads: self.threads,
        })
    }

    /// How to start this program as a worker.
    fn this_program(&self, device: &str) -> Result<Start> {
        let program = std::env::current_exe().context("this program cannot find itself")?;
        let mut arguments: Vec<OsString> = ["gpu-check", "--worker", "--device", device].map(OsString::from).to_vec();
        if let Some(threads) = self.threads {
            arguments.extend(["--threads".into(), threads.to_string().into()]);
        }
        Ok(Start { program, arguments })
    }
}

/// Does jobs from standard input on the device called `name` until there are no more.
fn serve(name: &str) -> Result<bool> {
    end_with_parent();
    let device = device::named(name).map_err(|e| plain(e.as_ref()));
    let device = device.as_ref().map_err(String::as_str);
    match gpu_check::serve(device, std::io::stdin().lock(), std::io::stdout())? {
        Ended::Done => Ok(true),
        Ended::DeadContext => std::process::exit(0), // drops no device
    }
}

/// Ends this process soon after the check that started it, however that ended: nobody would read the answer.
#[cfg(unix)]
fn end_with_parent() {
    use std::os::unix::process::parent_id;
    let parent = parent_id();
    // Without the thread the process ends after the job at hand, when it finds no other.
    let _ = std::thread::Builder::new().name("parent".into()).spawn(move || {
        while parent_id() == parent {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        std::process::exit(1);
    });
}

#[cfg(not(unix))]
fn end_with_parent() {}
