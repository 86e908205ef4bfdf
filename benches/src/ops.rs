//! Each fused op beside its plain reference and its floor.

use crate::step::{Report, Shape};
use anyhow::{Result, bail};

#[derive(clap::Args, Clone, Debug)]
pub struct Args {}

pub fn run(_: &Args) -> Result<()> {
    bail!("")
}

pub fn targets_apart(_: &Shape, _: usize) -> Result<Report> {
    bail!("")
}
