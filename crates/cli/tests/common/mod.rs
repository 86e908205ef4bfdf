//! The program as a test starts it, and what it said.
#![allow(dead_code)] // each test program uses some of it

use std::path::Path;
use std::process::{Command, Output};

/// The program in `folder`. Tensor errors carry a backtrace where this is set; the user must not see it.
pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfpatch"));
    command.current_dir(folder).env("RUST_BACKTRACE", "1").args(args);
    command
}

/// How the program ended.
pub fn selfpatch(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().expect("the program runs")
}

pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn said(output: &Output) -> String {
    out(output) + &err(output)
}
