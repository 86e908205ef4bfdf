//! Thousands of mutants of every kind of file under a limit on memory.

use anyhow::Context;
use clap::Parser;
use selfpatch_fuzz::trial::{self, Trial};
use selfpatch_fuzz::{FORMATS, Format};
use selfpatch_output::{ended, note, say};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Mutants between two lines that tell how far it is.
const BLOCK: u64 = 500;

/// Reads mutants of every kind of file: none may panic, end the program or take more than a second.
#[derive(Parser)]
#[command(name = "mutants", bin_name = "cargo xtask mutants")]
struct Args {
    /// Mutants of each format
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// Another seed makes other mutants
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// One format alone: safetensors, pth, toml, jpeg, png, webp, bmp, tiff, tar, mask, idx, cifar
    #[arg(long, value_name = "FORMAT")]
    only: Option<String>,
    /// Bytes of address space that this program may use
    #[arg(long, default_value_t = 4 << 30)]
    memory: u64,
    /// Read this file, as one that was found before, and nothing else; needs --only
    #[arg(long, requires = "only")]
    file: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ended(ExitCode::SUCCESS),
        Ok(false) => ended(ExitCode::FAILURE),
        Err(e) => {
            note!("error: {e:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all was well.
fn run(args: &Args) -> anyhow::Result<bool> {
    limit(args.memory)?;
    let wanted = |f: &&Format| args.only.as_ref().is_none_or(|name| *name == f.name);
    let formats: Vec<&Format> = FORMATS.iter().filter(wanted).collect();
    if let (Some(path), [format]) = (&args.file, &formats[..]) {
        return one(format, path);
    }
    let names: Vec<&str> = FORMATS.iter().map(|f| f.name).collect();
    anyhow::ensure!(!formats.is_empty(), "there is no such format; this build has {}", names.join(", "));
    let folder = Path::new("target").join("mutants");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut all_well = true;
    for format in formats {
        all_well &= tried(format, args, &folder)?;
    }
    Ok(all_well)
}

/// Reads the mutants of a format, says what became of them, and keeps the bad ones.
fn tried(format: &Format, args: &Args, folder: &Path) -> anyhow::Result<bool> {
    // What ends the program leaves this file behind.
    let trying = folder.join(format!("mutant-{}-trying.bin", format.name));
    let before = |number: u64, bytes: &[u8]| {
        if number.is_multiple_of(BLOCK) {
            note!("{} from mutant {number} of seed {}; the one at hand: {}", format.name, args.seed, trying.display());
        }
        fs::write(&trying, bytes).with_context(|| format!("cannot write {}", trying.display()))
    };
    let Trial { accepted, refused, slowest, faults } = trial::run(format, args.seed, 0..args.count, before)?;
    let slowest = slowest.as_secs_f64() * 1e3;
    say!("{:<12} {} mutants, {accepted} accepted, {refused} refused, slowest {slowest:.1} ms", format.name, args.count);
    for fault in &faults {
        let path = folder.join(format!("mutant-{}-{}.bin", format.name, fault.number));
        fs::write(&path, &fault.bytes).with_context(|| format!("cannot write {}", path.display()))?;
        say!("{:<12} {}: {}", format.name, path.display(), fault.what);
    }
    if args.count > 0 {
        fs::remove_file(&trying).with_context(|| format!("cannot remove {}", trying.display()))?;
    }
    Ok(faults.is_empty())
}

/// Reads a single file.
fn one(format: &Format, path: &Path) -> anyhow::Result<bool> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (outcome, time) = trial::attempt(format, &bytes);
    say!("{:<12} {outcome:?}, {:.1} ms", format.name, time.as_secs_f64() * 1e3);
    Ok(outcome.is_ok() && time <= trial::LIMIT)
}

/// Limits the address space of this program.
#[cfg(unix)]
fn limit(bytes: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::As).maximum;
    let limit = Rlimit { current: Some(maximum.map_or(bytes, |most| bytes.min(most))), maximum };
    setrlimit(Resource::As, limit).context("cannot limit the memory of this program")
}

#[cfg(not(unix))]
fn limit(_: u64) -> anyhow::Result<()> {
    note!("warning: this system has no limit on the memory of a program; big allocations go unnoticed");
    Ok(())
}
