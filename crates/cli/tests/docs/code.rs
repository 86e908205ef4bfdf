//! Commands, flags and settings that the text of a page names between backticks: they must exist.

use crate::page::{self, Line};
use crate::{program, repository};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// Flags of other programs.
const OF_OTHERS: [&str; 6] = ["--release", "--features", "--workspace", "--path", "--signal", "--help"];

/// Sections of the configuration.
const SECTIONS: [&str; 10] =
    ["data", "model", "head", "objective", "patch_loss", "optim", "crops", "checkpoint", "health", "eval"];

/// What the text of a page names that is not there.
pub fn wrong(path: &str, text: &str, commands: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let spans = page::code_spans(text).into_iter().filter(|span| seen.insert(span.text.clone()));
    spans.filter_map(|span| fault(&span, commands).map(|what| format!("{path}:{}: {what}", span.line))).collect()
}

fn fault(span: &Line, commands: &[String]) -> Option<String> {
    let words = page::simple_commands(&span.text).into_iter().next()?;
    let flags = || words.iter().filter_map(|word| flag(word));
    if let Some(args) = program::arguments(&words) {
        let command = args.first().filter(|command| commands.contains(command))?;
        let unknown = flags().find(|flag| !program::has_flag(command, flag))?;
        return Some(format!("`{}`: `{command}` has no {unknown}", span.text));
    }
    if words[0].starts_with("--") {
        let unknown = flags().find(|flag| !known(flag, commands))?;
        return Some(format!("`{}`: no command has {unknown}", span.text));
    }
    let field = words[0].trim_end_matches(".*");
    let place = field.split('=').next().unwrap_or(field);
    let fits = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
    // `head.weight` is a tensor.
    let tensor = [".weight", ".bias", ".rs", ".md", ".html"].iter().any(|end| place.ends_with(end));
    if place.contains('.') && !tensor && place.chars().all(fits) && SECTIONS.contains(&place.split('.').next()?) {
        static ANYWHERE: OnceLock<tempfile::TempDir> = OnceLock::new();
        let folder = ANYWHERE.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
        if !program::has_field(folder.path(), place) {
            return Some(format!("`{}`: the configuration has no such field", span.text));
        }
    }
    None
}

/// A flag without its value.
fn flag(word: &str) -> Option<&str> {
    let name = word.split('=').next()?;
    (name.len() > 2 && name.starts_with("--") && !name.starts_with("---")).then_some(name)
}

/// Whether any command of the program or any chore of the repository has a flag.
fn known(flag: &str, commands: &[String]) -> bool {
    static CHORES: OnceLock<String> = OnceLock::new();
    let chores = CHORES.get_or_init(|| {
        let mut all = String::new();
        for folder in ["xtask/src", "benches/src", "fuzz/src"] {
            sources(&repository().join(folder), &mut all);
        }
        all
    });
    let field = format!(" {}: ", flag[2..].replace('-', "_"));
    OF_OTHERS.contains(&flag)
        || commands.iter().any(|command| program::has_flag(command, flag))
        || chores.contains(flag)
        || chores.contains(&field)
}

fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.extension() {
            _ if path.is_dir() => sources(&path, all),
            Some(extension) if extension == "rs" => *all += &fs::read_to_string(&path).expect("a source"),
            _ => {}
        }
    }
}

#[test]
fn what_does_not_exist_is_found() {
    let text = "`cargo xtask train --data x --bogus …`, `--use_fp16 true`, `--no-such-flag`, `optim.lr`, `optim.lrr = 1`, \
                `eval.*`, `head.weight`, `--kills`, `cargo xtask bench --x`, `selfpatch watch --every 1`\n";
    let found = wrong("page", text, &program::commands());
    let expected = ["`train` has no --bogus", "no command has --no-such-flag", "`optim.lrr = 1`"];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(found.iter().zip(expected).all(|(found, expected)| found.contains(expected)), "{found:#?}");
}
