//! The sources of the project.

use crate::repository;
use std::fs;
use std::path::Path;

/// A file of the project.
pub struct Source {
    /// Path in the repository, with `/`.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl Source {
    /// The folder of the package that the file belongs to, such as `crates/nn` or `xtask`.
    pub fn package(&self) -> &str {
        let end = self.path.match_indices('/').nth(if self.path.starts_with("crates/") { 1 } else { 0 });
        end.map_or("", |(end, _)| &self.path[..end])
    }

    /// Whether the file is part of a library or program, not of its tests or its build.
    pub fn is_product(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.ends_with(".rs")
            && self.path.contains("/src/")
            && !["tests.rs", "testing.rs", "build.rs"].contains(&name)
            && !self.path.contains("/tests/")
    }

    /// The code with the numbers of its lines: without comments, and without the tests at the end.
    pub fn code(&self) -> Vec<(usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = |i: usize| {
            lines[i].starts_with("#[cfg(")
                && lines[i].contains("test")
                && lines.get(i + 1).is_some_and(|l| l.ends_with(" {"))
        };
        let end = (0..lines.len()).find(|&i| tests(i)).unwrap_or(lines.len());
        let code = lines[..end].iter().enumerate().map(|(i, line)| (i + 1, *line));
        code.filter(|(_, line)| !line.trim_start().starts_with("//")).collect()
    }
}

/// All files below the folders that hold code and pages.
pub fn all() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask", "benches", "fuzz", "docs"] {
        add(&repository().join(folder), &mut files);
    }
    for name in ["README.md", "CHANGELOG.md", "Cargo.toml"] {
        let text = fs::read_to_string(repository().join(name)).expect("a file");
        files.push(Source { path: name.into(), text });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn add(folder: &Path, files: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with("target") {
                add(&path, files);
            }
            continue;
        }
        let name = path.strip_prefix(repository()).expect("below").to_string_lossy().replace('\\', "/");
        // What is not text has no words, but a name.
        files.push(Source { path: name, text: fs::read_to_string(&path).unwrap_or_default() });
    }
}

/// Whether `word` stands in `text` by itself, not as a part of a longer name.
pub fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part) && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[test]
fn words_and_code() {
    assert!(has_word("a.unsafe {", "unsafe") && !has_word("unsafely", "unsafe") && !has_word("is_unsafe", "unsafe"));
    let text = "//! a\nfn b() {} // c\n#[cfg(test)]\nmod tests {\n}\n".to_string();
    let source = Source { path: "crates/nn/src/x.rs".into(), text };
    assert_eq!((source.package(), source.code()), ("crates/nn", vec![(2, "fn b() {} // c")]));
    assert!(source.is_product());
}
