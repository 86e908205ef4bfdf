//! Names of code and of files between backticks on the pages: they must exist.

use crate::nothing;
use crate::page;
use crate::source::{self, Source, has_word};
use std::collections::BTreeSet;

/// Folders and files of a run, of an evaluation or of a data set, not of this project.
const ELSEWHERE: [&str; 9] =
    ["tb/", "valid/", "train/", "photos/", "features/", "checkpoints/", "replay/", "views/", "gpu-report.md"];

/// Names of other projects.
const OF_OTHERS: [&str; 4] = ["GradScaler", "JPEGImages", "ImageSets", "DataLoader"];

/// A piece of code that a page shows, and what it turns out to name.
enum Name<'a> {
    /// A file or folder of this project.
    File(&'a str),
    /// The parts of a path such as `eval::labels::decide`.
    Item(Vec<&'a str>),
}

/// What a span names, if it can be told to be a file or an item.
fn named(span: &str) -> Option<Name<'_>> {
    let is_path = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let span = span.split("::").next().filter(|file| file.ends_with(".rs")).unwrap_or(span);
    // What a run or a user names, written with placeholders or as the end of a name.
    let placeholder =
        |part: &str| part.contains("NNN") || part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase());
    if is_path(span) && !span.starts_with('.') && !span.split('/').any(placeholder) {
        let code = [".rs", ".cu", ".cuh", ".py", ".h"].iter().any(|end| span.ends_with(end));
        let ours = ["crates/", "xtask/", "docs/", "benches/", "fuzz/"].iter().any(|start| span.starts_with(start));
        let page = span.ends_with(".md") && !span.contains(' ');
        let folder = span.ends_with('/') && !span.starts_with(|c: char| c.is_uppercase());
        if code || ours || page || folder {
            return Some(Name::File(span));
        }
    }
    let item = span.split(['(', '<', '!', ' ']).next()?;
    let parts: Vec<&str> = item.split("::").collect();
    let identifier = |part: &&str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !part.starts_with(|c: char| c.is_ascii_digit())
    };
    if !parts.iter().all(identifier) || item.len() != span.len() && !span[item.len()..].starts_with(['(', '<', '!']) {
        return None;
    }
    let camel = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_uppercase())
            && part.contains(|c: char| c.is_ascii_lowercase())
            && part.len() > 2
    };
    // A single word is one of code if it is written as types are.
    (parts.len() > 1 && !is_external(parts[0]) || parts.len() == 1 && camel(parts[0])).then_some(Name::Item(parts))
}

/// Whether the first part of a path is a crate of others.
fn is_external(part: &str) -> bool {
    ["std", "emu", "candle_core", "candle_nn", "cudarc"].contains(&part)
}

/// Whether a line of code defines or re-exports an item, a variant or a field of this name.
fn defines(line: &str, word: &str) -> bool {
    let start = line.trim_start();
    let start = ["pub(crate) ", "pub(super) ", "pub "].iter().find_map(|p| start.strip_prefix(p)).unwrap_or(start);
    let item = ["unsafe ", "async ", "const "].iter().fold(start, |start, p| match start.strip_prefix(p) {
        Some(rest) if rest.starts_with("fn ") || rest.starts_with("unsafe ") => rest,
        _ => start,
    });
    let kinds = ["fn ", "struct ", "enum ", "trait ", "const ", "static ", "type ", "mod ", "macro_rules! "];
    let named = |rest: &str| {
        rest.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    kinds.iter().any(|kind| item.strip_prefix(kind).is_some_and(named))
        || start.starts_with("use ") && has_word(start, word)
        // A re-export of several lines, a variant or a field.
        || named(start) && ([",", "(", " {", ":", " ="].iter().any(|end| start[word.len()..].starts_with(end)) || start == word)
        || line.starts_with("    ") && has_word(line, word) && line.ends_with(',') && !line.contains(['(', '=', '.', '"'])
}

/// What does not exist.
fn missing(span: &str, files: &[Source]) -> Option<String> {
    match named(span)? {
        Name::File(path) => {
            let bare = path.trim_end_matches('/');
            let known = |f: &Source| {
                let full = format!("/{}", f.path);
                match path.ends_with('/') {
                    true => full.contains(&format!("/{path}")),
                    false => full.ends_with(&format!("/{bare}")) || full.contains(&format!("/{bare}/")),
                }
            };
            let exists = ELSEWHERE.contains(&path) || files.iter().any(known);
            (!exists).then(|| format!("there is no file {path}"))
        }
        Name::Item(parts) => {
            if OF_OTHERS.contains(&parts[0]) {
                return None;
            }
            let first = parts[0].strip_prefix("selfpatch_").unwrap_or(parts[0]);
            let folder = format!("crates/{first}");
            let of_crate = files.iter().any(|f| f.package() == folder);
            let code = files.iter().filter(|f| f.is_product() && (!of_crate || f.package() == folder));
            let code: Vec<Vec<(usize, &str)>> = code.map(Source::code).collect();
            let rest = if of_crate { &parts[1..] } else { &parts[..] };
            let there = |word: &str| code.iter().flatten().any(|(_, line)| defines(line, word));
            let unknown = rest.iter().find(|part| !there(part))?;
            let place = if of_crate { folder.as_str() } else { "the sources" };
            Some(format!("{place} has no {unknown}"))
        }
    }
}

#[test]
fn what_the_pages_name_exists() {
    let files = source::all();
    let mut wrong = BTreeSet::new();
    for (path, text) in page::pages(crate::repository()) {
        for span in page::code_spans(&text) {
            if let Some(what) = missing(&span.text, &files) {
                wrong.insert(format!("{path}:{}: `{}`: {what}", span.line, span.text));
            }
        }
    }
    nothing(wrong.into_iter().collect());
}

#[test]
fn a_name_that_is_gone_is_found() {
    let files = source::all();
    for gone in
        ["nn::no_such_item", "datasets/src/no_such.rs", "NoSuchType", "no_such.rs", "eval::labels::no_such", "nowhere/"]
    {
        assert!(missing(gone, &files).is_some(), "{gone}");
    }
    for there in [
        "nn::backward",
        "docs/gpu.md",
        "Network::teacher",
        "augment/blur.rs",
        "kernel/",
        "wide!",
        "data.max_bad",
        "x 3",
    ] {
        assert_eq!(missing(there, &files), None, "{there}");
    }
}

/// Links between the pages lead somewhere.
#[test]
fn links_lead_to_files_and_headings() {
    let files = source::all();
    let mut wrong = Vec::new();
    for file in files.iter().filter(|f| f.path.ends_with(".md")) {
        for link in file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (target, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let target = match (target, folder) {
                ("", _) => file.path.clone(),
                (target, "") => target.to_string(),
                (target, folder) => format!("{folder}/{target}"),
            };
            let Some(found) = files.iter().find(|f| f.path == target) else {
                wrong.push(format!("{}: {link}: there is no {target}", file.path));
                continue;
            };
            let anchor = |line: &str| {
                let title = line.trim_start_matches('#').trim().to_lowercase();
                title
                    .chars()
                    .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                    .collect::<String>()
                    .replace(' ', "-")
            };
            if !heading.is_empty() && !found.text.lines().any(|l| l.starts_with('#') && anchor(l) == heading) {
                wrong.push(format!("{}: {link}: {target} has no such heading", file.path));
            }
        }
    }
    nothing(wrong);
}
