//! The commands that README.md and the pages of docs show, run as they stand there.
//!
//! Each page is read from top to bottom as by somebody who types every command: in a folder of its own, which
//! [`inputs`] fills with small synthetic data under the names that the pages use. `cargo xtask COMMAND` and
//! `selfpatch COMMAND` are the program that this test was built with; flags that keep it small are added behind those
//! that are shown (`small.sh`). A block whose commands cannot run here has a comment before it,
//! `<!-- not run: REASON -->`; their flags are still parsed. The chores of `cargo xtask` are parsed where they are
//! defined, in the tests of `xtask`, `benches` and `fuzz`.

mod code;
mod inputs;
mod page;
mod program;
mod read;
#[path = "../common/tar.rs"]
mod tar;

use std::path::Path;

/// Where the pages are.
fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// One test for each page, so that they run side by side and one can be run alone.
macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {
        $(#[test]
        fn $name() {
            read::commands_work($path);
        })*

        #[test]
        fn no_page_is_missing() {
            let found: Vec<String> = page::pages(repository()).into_iter().map(|(name, _)| name).collect();
            assert_eq!(found, [$($path),*]);
        }
    };
}

pages! {
    readme: "README.md",
    architecture: "docs/architecture.md",
    benchmarks: "docs/benchmarks.md",
    checkpoints: "docs/checkpoints.md",
    data: "docs/data.md",
    evaluation: "docs/evaluation.md",
    flags: "docs/flags.md",
    gpu_check: "docs/gpu-check.md",
    gpu: "docs/gpu.md",
    method: "docs/method.md",
    pretraining: "docs/pretraining.md",
    results: "docs/results.md",
    running: "docs/running.md",
    weights: "docs/weights.md",
}
