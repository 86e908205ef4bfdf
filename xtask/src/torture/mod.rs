//! `cargo xtask torture`: training is killed, stopped, starved of disk and given damaged checkpoints, and must
//! come out with the loss curve of an undisturbed run, bit for bit.

mod damage;
mod full;
mod kill;
mod run;
mod signals;

use run::Bench;
use std::process::ExitCode;
use std::time::Instant;

const HELP: &str = "\
Usage: cargo xtask torture [--short] [--only kill|damage|full|signals|mutants] [--kills N] [--mutants N] [--seed S]

  --short   12 kills, 300 mutants per format: what CI runs (minutes)
  otherwise 200 kills, 10,000 mutants per format
Needs Linux; the full disk is a small tmpfs, which only root can mount (else that part says NOT RUN).
";

/// Builds and runs the program that breaks files.
pub const MUTANTS: [&str; 6] = ["run", "--release", "--bin", "mutants", "--features", "idx"];

/// What the arguments ask for.
pub(crate) struct Plan {
    only: Option<String>,
    kills: usize,
    mutants: usize,
    seed: u64,
}

/// Runs all parts and prints a table; fails if any part does.
pub fn torture(args: &[String], cargo: &dyn Fn(&[&str]) -> bool) -> ExitCode {
    let plan = match plan(args) {
        Ok(plan) => plan,
        Err(text) => {
            note!("{}", text.trim_end());
            return ExitCode::from(2);
        }
    };
    if !cargo(&["build", "--release", "--bin", "selfpatch"]) {
        return ExitCode::FAILURE;
    }
    let work = std::env::temp_dir().join(format!("selfpatch-torture-{}", std::process::id()));
    let bench = match Bench::new(work.clone()) {
        Ok(bench) => bench,
        Err(e) => {
            note!("error: {e}");
            return ExitCode::FAILURE;
        }
    };
    let mutants = plan.mutants.to_string();
    type Part<'a> = (&'a str, Box<dyn Fn() -> Result<String, String> + 'a>);
    let parts: [Part; 5] = [
        ("kill", Box::new(|| kill::part(&bench, plan.kills, plan.seed))),
        ("damage", Box::new(|| damage::part(&bench))),
        ("full", Box::new(|| full::part(&bench))),
        ("signals", Box::new(|| signals::part(&bench))),
        (
            "mutants",
            Box::new(|| match cargo(&[&MUTANTS[..], &["--", "--count", &mutants]].concat()) {
                true => Ok(format!("{mutants} per format: no panic, no abort, none above 1 s")),
                false => Err("see above".into()),
            }),
        ),
    ];
    let mut lines = Vec::new();
    let mut failed = false;
    for (name, part) in &parts {
        if plan.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        say!("== {name}");
        let start = Instant::now();
        let (word, text) = match part() {
            Ok(text) => ("passed", text),
            Err(text) => {
                failed = true;
                ("FAILED", text)
            }
        };
        lines.push(format!("{name:8} {word} {:5.0} s  {text}", start.elapsed().as_secs_f64()));
    }
    say!("\n{}", lines.join("\n"));
    if failed {
        say!("what was left: {}", work.display());
        return ExitCode::FAILURE;
    }
    let _ = std::fs::remove_dir_all(&work);
    ExitCode::SUCCESS
}

/// Greatest number of an argument.
const MOST: usize = 1_000_000_000;

/// Reads the arguments; an error is what to print.
pub(crate) fn plan(args: &[String]) -> Result<Plan, String> {
    let mut plan = Plan { only: None, kills: 200, mutants: 10_000, seed: 1 };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or(format!("error: {arg} needs a value\n\n{HELP}"));
        let number = |text: String| {
            let fits = text.parse().ok().filter(|n: &usize| *n <= MOST);
            fits.ok_or(format!("error: {arg}: {text:?} is no whole number of at most {MOST}\n\n{HELP}"))
        };
        match arg.as_str() {
            "--short" => (plan.kills, plan.mutants) = (12, 300),
            "--only" => plan.only = Some(value()?),
            "--kills" => plan.kills = number(value()?)?,
            "--mutants" => plan.mutants = number(value()?)?,
            "--seed" => plan.seed = number(value()?)? as u64,
            "-h" | "--help" => return Err(HELP.into()),
            other => return Err(format!("error: there is no {other}\n\n{HELP}")),
        }
    }
    Ok(plan)
}
