//! Numbers that no machine can do: each is refused in one line, within little memory, and nothing is aborted. That every
//! flag has bounds is tested beside them (`src/bounds.rs`); here the program itself is started.
#![cfg(target_os = "linux")]

mod common;

use common::selfpatch;
use std::process::{Command, Output};

/// The program with 3 GiB of address space.
fn confined(folder: &std::path::Path, args: &[&str]) -> Output {
    let script = "ulimit -v 3145728; exec \"$@\"";
    let mut command = Command::new("sh");
    command.current_dir(folder).args(["-c", script, "sh", env!("CARGO_BIN_EXE_selfpatch")]).args(args);
    command.output().expect("sh runs")
}

/// Refused in one line that contains `names`.
fn refused(folder: &std::path::Path, args: &[&str], names: &str) {
    let output = confined(folder, args);
    let text = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {} {text}", output.status);
    assert!(errors.len() == 1 && errors[0].contains(names), "{args:?}: {text}");
    assert!(!text.contains("panicked") && !text.contains("memory allocation"), "{args:?}: {text}");
}

#[test]
fn numbers_beyond_all_bounds_are_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cases: [(&[&str], &str); 37] = [
        (&["train", "--lr", "1e18"], "--lr (optim.lr): 1000000000000000000 is beyond the limit of 1000"),
        (&["train", "--lr", "-1e-3"], "--lr (optim.lr): must be at least 0, is -0.001"),
        (&["train", "--momentum-teacher", "-.5"], "--momentum-teacher"),
        (&["eval-davis", "--temperature", "-1"], "--temperature"),
        (&["eval-knn", "--train", "x", "--temperature", "-1e-3"], "--temperature"),
        (&["train", "--local-crops-scale", "-1", "1"], "--local-crops-scale"),
        (
            &["train", "--set", "optim.epochs=99999999999999999999"],
            "--set optim.epochs: 99999999999999999999 is beyond",
        ),
        (&["eval-davis", "--scale-size", "20000"], "--scale-size"),
        (&["eval-davis", "--n_last_frames", "4294967296"], "--n-last-frames"),
        (&["eval-davis", "--size-mask-neighborhood=9223372036854775807"], "--size-mask-neighborhood"),
        (&["eval-davis", "--topk", "0"], "--topk"),
        (&["eval-davis", "--temperature", "inf"], "--temperature"),
        (&["eval-davis", "--layer", "0"], "--layer"),
        (&["eval-davis", "--weights", "x", "--patch-size", "2147483648"], "--patch-size"),
        (&["eval-davis", "--threads", "1000000"], "--threads"),
        (&["eval-knn", "--train", "x", "--image-size", "100000"], "--image-size"),
        (&["eval-knn", "--train", "x", "--temperature", "nan"], "--temperature"),
        (&["eval-knn", "--train", "x", "--k", "5", "18446744073709551615"], "--nb-knn"),
        (&["eval-knn", "--weights", "x", "--train", "x", "--num-heads", "0"], "--num-heads"),
        (&["inspect-data", "--data", "procedural", "--show", "2147483648"], "--show"),
        (&["inspect-data", "--data", "procedural", "--max-bad", "nan"], "--max-bad"),
        (&["inspect-data", "--data", "procedural", "--num-workers", "1000000"], "--num-workers"),
        (&["inspect-data", "--data", "procedural", "--set", "data.procedural_size=1000000"], "data.procedural_size"),
        (&["watch", "--every", "1e30"], "--every"),
        (&["gpu-check", "--device", "cpu", "--minutes", "nan"], "--minutes"),
        (&["train", "--out-dim", "2147483648"], "--out-dim"),
        (&["train", "--batch_size_per_gpu", "1000000"], "--batch_size_per_gpu (optim.batch_size)"),
        (&["train", "--set", "model.embed_dim=1000000"], "model.embed_dim"),
        (&["train", "--num-workers", "4294967295"], "--num-workers"),
        (&["train", "--lr", "inf"], "--lr"),
        (&["train", "--weight-decay", "-1"], "--weight-decay"),
        (&["train", "--lambda", "nan"], "--lambda"),
        (&["train", "--window", "2147483647"], "--window"),
        (&["train", "--saveckp-freq", "0"], "--saveckp-freq"),
        (&["train", "--local-crops-scale", "nan", "1"], "scale"),
        (&["train", "--seed", "-1"], "--seed"),
        (&["train", "--set", "checkpoint.keep=9223372036854775807"], "checkpoint.keep"),
    ];
    for (args, names) in cases {
        refused(folder.path(), args, names);
    }
    assert!(!folder.path().join("runs").exists(), "a refused command must leave nothing behind");
}

#[test]
fn what_needs_more_memory_than_there_is_says_how_much_and_what_needs_less() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    let memory: [&[&str]; 4] = [
        &["train", "--out-dim", "4000000", "--set", "head.bottleneck_dim=8192"],
        &["train", "--batch-size", "60000", "--set", "data.procedural_images=60000"],
        &["train", "--set", "model.embed_dim=16383", "--set", "model.depth=256"],
        &["train", "--set", "data.procedural_images=1000000000"],
    ];
    for args in memory {
        refused(root, args, "of memory, ulimit leaves");
    }
    let crops = ["--set", "crops.local_count=256", "--set", "crops.locals.size=4096"];
    let sheet = [&["inspect-data", "--images", "1", "--show", "256"][..], &crops].concat();
    refused(root, &sheet, "--show: needs about");
    assert!(!root.join("runs").exists());

    let small = ["train", "--set", "model.embed_dim=12", "--set", "model.depth=1", "--max-steps", "1", "--threads=1"];
    let trained = confined(root, &small);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let evaluated = confined(root, &["eval-davis", "--scale-size", "4096", "--threads=1", "--json"]);
    let text = String::from_utf8_lossy(&evaluated.stderr);
    assert!(evaluated.status.code() == Some(1) && text.contains("(--scale-size)"), "{text}");
    assert!(text.contains("of memory, ulimit leaves") && !text.contains("memory allocation"), "{text}");
    let fine = selfpatch(root, &["eval-davis", "--scale-size", "64", "--n_last_frames", "1", "--json"]);
    assert!(fine.status.success(), "{}", String::from_utf8_lossy(&fine.stderr));
}
