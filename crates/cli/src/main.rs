//! The `selfpatch` program: pre-train, look at data, evaluate, check parity.

#[macro_use]
extern crate selfpatch_output;

mod about;
mod bounds;
mod davis_metrics;
mod device;
mod eval_davis;
mod eval_knn;
mod eval_linear;
mod flags;
mod gpu_check;
mod hub;
mod inspect;
mod interrupt;
mod labelled;
mod model;
mod parity;
mod progress;
mod recipe;
mod replay;
mod signals;
mod subject;
mod train;
mod watch;
mod whole;

use clap::{Parser, Subcommand};
use selfpatch_allocator as _;
use selfpatch_output::{lose, plain};
use std::ffi::OsString;
use std::process::ExitCode;

/// How the program ends; `docs/running.md` tells more.
const CODES: &str = "\
Exit codes: 0 done, 1 an error, 2 a misspelt command line, 74 what it printed could not be written, 75 a training that a \
signal stopped has saved and can go on, 130 a second Ctrl-C, 141 the reader of what it printed has left";

/// Learn dense visual features without labels.
#[derive(Parser)]
#[command(name = "selfpatch", version, propagate_version = true, after_help = CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pre-train a ViT with DINO + SelfPatch; without arguments on synthetic images
    Train(Box<train::Args>),
    /// Show a run in the terminal while it goes on; without arguments the newest
    Watch(watch::Args),
    /// Look at training data: counts, sizes, bad files, mean and std, and the crops that the network sees
    InspectData(Box<inspect::Args>),
    /// Measure dense features by DAVIS label propagation; without arguments the newest run
    EvalDavis(Box<eval_davis::Args>),
    /// Classify images by their nearest neighbours among labelled ones; without --weights the newest run
    EvalKnn(Box<eval_knn::Args>),
    /// Classify images by a linear layer on frozen features; without --weights those of the newest run
    EvalLinear(Box<eval_linear::Args>),
    /// Score masks of any program by the J and F of DAVIS
    DavisMetrics(Box<davis_metrics::Args>),
    /// Repeat a step that a run could not take because a number was non-finite
    Replay(replay::Args),
    /// Compare with fixtures computed by the original program
    Parity(parity::Args),
    /// Check a GPU in one call: parity, loss curves, speed beside PyTorch
    GpuCheck(gpu_check::Args),
}

fn main() -> ExitCode {
    let arguments = joined(std::env::args_os().map(hyphenated));
    for (variable, threads) in device::thread_limits(&arguments) {
        // SAFETY: there is one thread so far.
        unsafe { std::env::set_var(variable, threads) };
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(e) => return answered(&e),
    };
    if let Err(e) = signals::outlive_file_limit() {
        note!("warning: a limit on the size of files would end this program: {e}");
    }
    let outcome = match &cli.command {
        // Its result is the folder of the run, whoever reads what it prints.
        Command::Train(args) => return ended(train::run(args)),
        Command::Watch(args) => watch::run(args).map(|()| true),
        Command::InspectData(args) => inspect::run(args),
        Command::EvalDavis(args) => eval_davis::run(args),
        Command::EvalKnn(args) => eval_knn::run(args),
        Command::EvalLinear(args) => return selfpatch_output::ended(ended(eval_linear::run(args))),
        Command::DavisMetrics(args) => davis_metrics::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Parity(args) => parity::run(args),
        Command::GpuCheck(args) => gpu_check::run(args),
    };
    selfpatch_output::ended(ended(outcome.map(|fine| if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })))
}

/// Prints help, version or what is wrong with the arguments, and says how the program ends with that.
fn answered(e: &clap::Error) -> ExitCode {
    match e.print() {
        Err(lost) if !e.use_stderr() => lose(lost),
        _ => {}
    }
    selfpatch_output::ended(u8::try_from(e.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn ended(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|e| {
        let limit = signals::file_limit().map_or(String::new(), |limit| format!("; {limit}"));
        note!("error: {}{limit}", plain(e.as_ref()));
        interrupt::code(&e).map_or(ExitCode::FAILURE, ExitCode::from)
    })
}

/// DINO spells its flags with underscores: `--data_path` is `--data-path`.
fn hyphenated(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text) if text.starts_with("--") => {
            let (flag, value) = match text.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (text, None),
            };
            let flag = flag.replace('_', "-");
            value.map_or(flag.clone(), |value| format!("{flag}={value}")).into()
        }
        _ => argument,
    }
}

/// A negative number after a flag becomes its value, which else would be taken for a flag: `--lr -1e-3` is `--lr=-1e-3`.
fn joined(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut whole: Vec<OsString> = Vec::new();
    for argument in arguments {
        let is_negative = argument.to_str().is_some_and(|text| text.starts_with('-') && text.parse::<f64>().is_ok());
        match whole.last_mut() {
            Some(flag) if is_negative && flag.to_str().is_some_and(|f| f.starts_with("--") && !f.contains('=')) => {
                flag.push("=");
                flag.push(argument);
            }
            _ => whole.push(argument),
        }
    }
    whole
}
