//! `selfpatch parity`: the project's numbers against fixtures computed by the original program.

use anyhow::Result;
use selfpatch_check::parity::{Computing, checked};
use std::path::PathBuf;

/// What `parity` was asked to do.
#[derive(clap::Args)]
pub struct Args {
    /// Folders of fixtures; folders of such folders are searched too, and of folders of crates `CRATE/tests/fixtures`
    #[arg(long, value_name = "DIR", num_args = 1.., default_value = "crates")]
    fixtures: Vec<PathBuf>,
    /// Only these fixtures (NAME or FOLDER/NAME)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the checks, prints the result, and says whether everything passed.
pub fn run(args: &Args) -> Result<bool> {
    let outcome = checked(&args.fixtures, &args.only, &Computing::reference())?;
    match args.json {
        true => say!("{}", serde_json::to_string_pretty(&outcome)?),
        false => say!("{}", outcome.table()),
    }
    Ok(outcome.passed)
}
