//! "What must stay true" of `docs/architecture.md`, as far as words in the sources tell.

use crate::nothing;
use crate::source::{self, Source, has_word};

/// Where the files in which a pattern occurs may be: beginnings of their paths.
struct Rule {
    /// What is said of the project.
    says: &'static str,
    /// Code that is looked for.
    patterns: &'static [&'static str],
    /// Beginnings of the paths of files that are looked at; all for `[""]`.
    within: &'static [&'static str],
    /// Beginnings of the paths of files that may have it.
    only: &'static [&'static str],
}

const RULES: [Rule; 13] = [
    Rule {
        says: "only main, which has one thread when it begins, sets environment variables",
        patterns: &["set_var(", "remove_var("],
        within: &["crates/", "xtask/src/", "benches/", "fuzz/"],
        only: &["crates/cli/src/main.rs", "xtask/src/main.rs", "benches/src/main.rs"],
    },
    Rule {
        says: "only nn/src/kernel/gemm.rs calls gemm, and benches to measure its peak",
        patterns: &["gemm::gemm("],
        within: &[""],
        only: &["crates/nn/src/kernel/gemm.rs", "benches/src/machine.rs"],
    },
    Rule {
        says: "the method knows no files",
        patterns: &["std::fs", "std::path", "File::", "Path::"],
        within: &["crates/losses/", "crates/matching/", "crates/aggregation/", "crates/optim/"],
        only: &[],
    },
    Rule {
        says: "datasets links no candle but for records.rs, behind the feature candle-datasets",
        patterns: &["candle_core", "candle_nn", "candle_datasets"],
        within: &["crates/datasets/", "crates/simd/", "crates/hub/", "crates/allocator/", "xtask/src/"],
        only: &["crates/datasets/src/source/records.rs"],
    },
    Rule {
        says: "in eval the protocol of DAVIS works on slices",
        patterns: &["candle_core::", "candle_nn::", "selfpatch_vit::"],
        within: &["crates/eval/"],
        only: &["crates/eval/src/vit.rs", "crates/eval/src/images.rs", "crates/eval/src/knn.rs"],
    },
    Rule {
        says: "TOML is read in run, train, finetune and cli alone",
        patterns: &["toml::", "use toml"],
        within: &["crates/"],
        only: &["crates/run/", "crates/train/", "crates/finetune/", "crates/cli/"],
    },
    Rule {
        says: "libraries read no arguments",
        patterns: &["env::args"],
        within: &["crates/"],
        only: &["crates/cli/"],
    },
    Rule {
        says: "libraries print nothing, and programs print by crates/output",
        patterns: &["println!(", "eprintln!(", "print!(", "eprint!(", "io::stdout", "io::stderr"],
        within: &["crates/"],
        only: &["crates/output/", "crates/cli/"],
    },
    Rule {
        says: "libraries say nothing, by crates/output neither",
        patterns: &["say!(", "note!("],
        within: &["crates/"],
        only: &["crates/output/", "crates/cli/"],
    },
    Rule {
        says: "no clock below run but where threads and ffmpeg are waited for",
        patterns: &["Instant::now", "SystemTime::now"],
        within: &["crates/"],
        only: &[
            "crates/run/",
            "crates/train/",
            "crates/finetune/",
            "crates/check/",
            "crates/cli/",
            "crates/datasets/src/batches.rs",
            "crates/datasets/src/source/clips.rs",
        ],
    },
    Rule {
        says: "nothing is drawn without a named stream",
        patterns: &["thread_rng", "rand::rng()", "from_os_rng", "from_entropy"],
        within: &[""],
        only: &[],
    },
    Rule {
        says: "unsafe appears where the page says",
        patterns: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"],
        within: &["crates/", "xtask/src/", "benches/", "fuzz/"],
        only: &[
            "crates/nn/src/kernel/gemm.rs",
            "crates/nn/src/kernel/sequential.rs",
            "crates/nn/src/cuda/",
            "crates/nn/src/ops/",
            "crates/matching/src/cuda.rs",
            "crates/optim/src/cuda.rs",
            "crates/simd/src/",
            "crates/datasets/src/augment/",
            "crates/allocator/src/",
            "crates/cli/src/device.rs",
            "crates/cli/src/main.rs",
            "crates/cli/src/signals.rs",
            "xtask/src/main.rs",
            "benches/src/machine.rs",
            "benches/src/main.rs",
        ],
    },
    Rule {
        says: "absent on purpose: utils, a prelude, async",
        patterns: &["mod utils", "mod util;", "mod prelude", "mod common;", "async fn"],
        within: &["crates/", "xtask/src/", "benches/", "fuzz/"],
        only: &[],
    },
];

fn broken(rule: &Rule, files: &[Source]) -> Vec<String> {
    let under = |file: &&Source, places: &[&str]| places.iter().any(|place| file.path.starts_with(place));
    let looked = files.iter().filter(|f| f.is_product() && under(f, rule.within) && !under(f, rule.only));
    let mut found = Vec::new();
    for file in looked {
        for (number, line) in file.code() {
            if let Some(pattern) = rule.patterns.iter().find(|pattern| has(line, pattern)) {
                found.push(format!("{}:{number}: {pattern:?}, but {}", file.path, rule.says));
            }
        }
    }
    found
}

/// Whether code has a pattern, which begins with a whole word; what stands in a text or behind `//` does not count.
fn has(line: &str, pattern: &str) -> bool {
    let code = line.split(" // ").next().unwrap_or(line);
    let word: String = pattern.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let quoted = |at: usize| code[..at].matches('"').count() % 2 == 1;
    code.match_indices(pattern).any(|(at, _)| !quoted(at)) && (word.is_empty() || has_word(code, &word))
}

#[test]
fn what_must_stay_true() {
    let files = source::all();
    nothing(RULES.iter().flat_map(|rule| broken(rule, &files)).collect());
}

/// A list of places in which a file is gone, or has nothing of it, would let new ones pass in its name.
#[test]
fn every_exception_is_one() {
    let files = source::all();
    let mut idle = Vec::new();
    for rule in &RULES {
        for place in rule.only {
            let mut there = files.iter().filter(|f| f.is_product() && f.path.starts_with(place));
            if !there.any(|f| f.code().iter().any(|(_, line)| rule.patterns.iter().any(|p| has(line, p)))) {
                idle.push(format!("{place}: has nothing of {:?} ({})", rule.patterns, rule.says));
            }
        }
    }
    nothing(idle);
}

#[test]
fn no_unwrap_or_panic_outside_of_tests() {
    let patterns = [".unwrap()", ".expect(\"", "panic!(", "todo!(", "unimplemented!("];
    // Refused before by `MultiCrop::validate_without_rgb`.
    let checked_before = "Op::Saturation(_) | Op::Hue(_) | Op::Grey => panic!";
    let mut found = Vec::new();
    for file in source::all().iter().filter(|f| f.is_product() && f.path.starts_with("crates/")) {
        for (number, line) in file.code() {
            if let Some(pattern) = patterns.iter().find(|p| line.contains(**p) && !line.contains(checked_before)) {
                found.push(format!("{}:{number}: {pattern}", file.path));
            }
        }
    }
    nothing(found);
}

/// Who may link candle, by the `Cargo.toml` files.
#[test]
fn candle_is_linked_where_the_page_says() {
    let without = ["crates/simd", "crates/hub", "crates/allocator", "crates/datasets", "xtask"];
    let files = source::all();
    let manifests = files.iter().filter(|f| f.path.ends_with("/Cargo.toml") && without.contains(&f.package()));
    let links =
        |line: &&str| (line.starts_with("candle-core") || line.starts_with("candle-nn")) && !line.contains("optional");
    nothing(manifests.filter(|f| f.text.lines().any(|l| links(&l))).map(|f| f.path.clone()).collect());
}
