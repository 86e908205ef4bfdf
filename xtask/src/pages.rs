//! The chores that README.md and the pages of docs show: their arguments must be understood. The program's own commands
//! are run by `crates/cli/tests/docs`, those of `bench` are parsed in `benches`.

#[path = "../../crates/cli/tests/docs/page.rs"]
mod page;

use crate::{cuda, torture};
use std::path::Path;
use std::process::Command;

/// Commands of the program.
const OF_THE_PROGRAM: [&str; 10] = [
    "train",
    "watch",
    "replay",
    "inspect-data",
    "eval-davis",
    "eval-knn",
    "eval-linear",
    "davis-metrics",
    "parity",
    "gpu-check",
];

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Whether cargo understands the arguments, and has the packages and features that they name.
fn cargo(words: &[String]) -> Result<(), String> {
    let own = words.iter().take_while(|w| *w != "--").filter(|w| !w.starts_with('+'));
    let own: Vec<&str> = own.map(String::as_str).collect();
    let output = Command::new(env!("CARGO")).args(&own).arg("-h").output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_string());
    }
    for pair in own.windows(2).filter(|pair| pair[0] == "-p" || pair[0] == "--package") {
        let short = pair[1].trim_start_matches("selfpatch-");
        if ![format!("crates/{short}"), short.to_string()]
            .iter()
            .any(|f| repository().join(f).join("Cargo.toml").exists())
        {
            return Err(format!("there is no package {}", pair[1]));
        }
    }
    let manifest = std::fs::read_to_string(repository().join("crates/cli/Cargo.toml")).map_err(|e| e.to_string())?;
    let of = |text: &str| text.split(',').map(str::to_string).collect::<Vec<_>>();
    let named = own.windows(2).filter(|pair| pair[0] == "--features").flat_map(|pair| of(pair[1]));
    match named.into_iter().find(|feature| !manifest.contains(&format!("\n{feature} = ["))) {
        Some(feature) => Err(format!("there is no feature {feature}")),
        None => Ok(()),
    }
}

fn chore(name: &str, args: &[String]) -> Result<(), String> {
    let one_flag = |flag| cuda::path_flag(args, flag, "").map(|_| ()).map_err(|_| "is not understood".to_string());
    match name {
        _ if OF_THE_PROGRAM.contains(&name) || name == "bench" => Ok(()),
        "build" => cargo(&[&["build".to_string()], args].concat()),
        "cuda-toolkit" => one_flag("--dir"),
        "pack-gpu" => one_flag("--out"),
        "torture" => torture::plan(args).map(|_| ()),
        "cuda" => cargo(args),
        "cuda-emulate" => match args {
            [alone] if alone == "self-test" || alone == "build-emulator" => Ok(()),
            [asan, rest @ ..] if asan == "--asan" => cargo(rest),
            _ => cargo(args),
        },
        "ci" | "mutants" if args.is_empty() => Ok(()),
        _ => Err(format!("there is no chore {name} with these arguments")),
    }
}

fn fault(words: &[String]) -> Option<String> {
    let outcome = match words {
        [program, xtask, name, args @ ..] if program == "cargo" && xtask == "xtask" => chore(name, args),
        [program, rest @ ..] if program == "cargo" => cargo(rest),
        _ => Ok(()),
    };
    outcome.err().map(|e| format!("{}: {e}", words.join(" ")))
}

#[test]
fn the_chores_of_the_pages_are_understood() {
    let mut wrong = Vec::new();
    for (path, text) in page::pages(repository()) {
        for block in page::blocks(&text).iter().filter(|block| block.label == "sh") {
            for line in page::lines(block) {
                let found = page::simple_commands(&line.text).into_iter().filter_map(|words| fault(&words));
                wrong.extend(found.map(|what| format!("{path}:{}: {what}", line.line)));
            }
        }
        for span in page::code_spans(&text) {
            // With `…` in it a command is only begun.
            let words = page::simple_commands(&span.text).into_iter().next().unwrap_or_default();
            if words.len() > 1
                && !span.text.contains('…')
                && words.last().is_none_or(|w| w.chars().any(char::is_lowercase))
            {
                wrong.extend(fault(&words).map(|what| format!("{path}:{}: {what}", span.line)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn what_is_not_understood_is_found() {
    let fault = |line: &str| fault(&page::simple_commands(line)[0]);
    for wrong in [
        "cargo xtask no-such",
        "cargo xtask torture --bogus",
        "cargo xtask cuda-toolkit --dirs x",
        "cargo test --bogus",
        "cargo xtask cuda test -p selfpatch-none",
        "cargo xtask build --features none",
    ] {
        assert!(fault(wrong).is_some(), "{wrong}");
    }
    for right in
        ["cargo xtask torture --short", "cargo +nightly test -p selfpatch-nn --lib", "tar -xzf x", "cargo xtask ci"]
    {
        assert_eq!(fault(right), None, "{right}");
    }
}
