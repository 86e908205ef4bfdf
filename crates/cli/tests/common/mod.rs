//! The program as a test starts it, and what it said.
#![allow(dead_code)] // each test program uses some of it

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Trains a network of 24 channels on 16 synthetic images, 2 steps per epoch.
pub const TRAIN: [&str; 12] = [
    "train",
    "--set",
    "data.procedural_images=16",
    "--set",
    "model.embed_dim=24",
    "--set",
    "model.depth=2",
    "--set",
    "head.hidden_dim=16",
    "--out_dim=32",
    "--out_dim_selfpatch=16",
    "--batch_size_per_gpu=8",
];

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

/// How a command that must succeed ended.
pub fn done(folder: &Path, args: &[&str]) -> Output {
    let output = selfpatch(folder, args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    output
}

/// The error of a command that must fail.
pub fn refused(folder: &Path, args: &[&str]) -> String {
    let output = selfpatch(folder, args);
    assert!(!output.status.success(), "{args:?}: {}", said(&output));
    err(&output)
}

/// The one object that standard output holds.
pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(output)))
}

/// `count` images of each colour, of sizes and shades of their own, a folder per colour.
pub fn colours(root: &Path, count: usize, colours: &[&str]) {
    for name in colours {
        fs::create_dir_all(root.join(name)).expect("made");
        for i in 0..count {
            let picture = image::RgbImage::from_fn(60 + i as u32, 64, |x, y| {
                let light = 150 + ((x * 3 + y * 5) as usize * (i + 1) % 90) as u8;
                image::Rgb(if *name == "red" { [light, 20, 20] } else { [20, 20, light] })
            });
            picture.save(root.join(name).join(format!("{i}.png"))).expect("written");
        }
    }
}
