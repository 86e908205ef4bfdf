//! The fenced blocks of a Markdown page, and the commands in them. Uses std alone: other packages' tests include
//! this file by its path.
#![allow(dead_code)] // each test program uses some of it

use std::fs;
use std::path::{Path, PathBuf};

/// Begins the comment before a block whose commands are not run; the reason follows, then `-->`.
const MARKER: &str = "<!-- not run:";

/// A fenced block.
#[derive(Debug, Default, PartialEq)]
pub struct Block {
    /// Line of the opening fence, from 1.
    pub line: usize,
    /// What stands behind the opening fence, such as `sh`.
    pub label: String,
    /// The lines between the fences.
    pub text: String,
    /// The file that the page announces the block to be.
    pub file: Option<String>,
    /// Why its commands are not run.
    pub marker: Option<String>,
}

/// The blocks of a page in their order.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut open, mut before) = (None::<(Block, usize)>, String::new());
    for (i, line) in page.lines().enumerate() {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        match &mut open {
            None if bare.starts_with("```") => {
                let reason = before.strip_prefix(MARKER).and_then(|rest| rest.strip_suffix("-->"));
                let marker = reason.map(|reason| reason.trim().to_string());
                let label = bare[3..].split(',').next().unwrap_or_default().trim().to_string();
                open =
                    Some((Block { line: i + 1, label, file: announced(&before), marker, ..Block::default() }, indent));
            }
            None if !bare.is_empty() => before = bare.trim_end().to_string(),
            None => {}
            Some(_) if bare.trim_end() == "```" => {
                blocks.extend(open.take().map(|(block, _)| block));
                before.clear();
            }
            Some((block, indent)) => {
                let text = line.get(*indent..).unwrap_or(bare);
                if block.text.is_empty() && block.file.is_none() {
                    block.file = text.strip_prefix("# ").filter(|name| is_file_name(name)).map(str::to_string);
                }
                block.text += text;
                block.text.push('\n');
            }
        }
    }
    blocks.extend(open.map(|(block, _)| block));
    blocks
}

/// The file that a line like "Save this as `my-run.toml`:" announces.
fn announced(line: &str) -> Option<String> {
    let name = line.strip_suffix("`:")?.rsplit('`').next()?;
    is_file_name(name).then(|| name.to_string())
}

fn is_file_name(text: &str) -> bool {
    let known = [".toml", ".txt", ".csv"].iter().any(|end| text.ends_with(end));
    known && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// A line of shell, with the lines that a backslash joins to it.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Its place on the page, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

/// The lines of shell in a block, without empty ones and comments.
pub fn lines(block: &Block) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut continues = false;
    for (i, text) in block.text.lines().enumerate() {
        let (part, more) = text.strip_suffix('\\').map_or((text, false), |part| (part, true));
        match lines.last_mut().filter(|_| continues) {
            Some(last) => last.text += part,
            None => lines.push(Line { line: block.line + 1 + i, text: part.to_string() }),
        }
        continues = more;
    }
    lines.retain(|line| !simple_commands(&line.text).is_empty());
    lines
}

/// The words of each simple command of a line of shell: quotes are taken off, what joins commands separates them, a
/// comment ends the line. Assignments and programs that only start another one are taken off.
pub fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            (';' | '&' | '|', None) => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    commands.push(words);
    for words in &mut commands {
        let starts = |w: &String| ["srun", "nohup", "time", "nice"].contains(&w.as_str()) || is_assignment(w);
        words.drain(..words.iter().take_while(|w| starts(w)).count());
    }
    commands.retain(|words| !words.is_empty());
    commands
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map(|(name, _)| name);
    name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
}

/// The pieces of code within the text of a page, with their lines. Blocks are left out.
pub fn code_spans(page: &str) -> Vec<Line> {
    let mut fenced = false;
    let mut prose = String::new();
    for line in page.lines() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        prose += if fenced || fence { "" } else { line };
        prose.push('\n');
    }
    let (mut spans, mut line) = (Vec::new(), 1);
    for (i, part) in prose.split('`').enumerate() {
        if i % 2 == 1 && !part.is_empty() {
            spans.push(Line { line, text: part.split_whitespace().collect::<Vec<_>>().join(" ") });
        }
        line += part.matches('\n').count();
    }
    spans
}

/// README.md and the pages of docs, by their paths in the repository at `root`.
pub fn pages(root: &Path) -> Vec<(String, String)> {
    let mut paths = vec![root.join("README.md")];
    let docs = fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let mut docs: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    docs.sort();
    paths.extend(docs);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).expect("a page"))
    };
    paths.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_labels_files_and_reasons() {
        let page = "# A\n\nSave this as `a.toml`:\n\n```toml\nx = 1\n```\n\n<!-- not run: needs a GPU -->\n```sh\ntrain\n```\n\
                    1. In a list\n   ```rust,no_run\n   fn a() {}\n     b\n   ```\n<!-- not run: -->\n```sh\n# b.txt\nx\n```\n";
        let found = blocks(page);
        let of = |b: &Block| (b.line, b.label.clone(), b.file.clone(), b.marker.clone());
        let some = |text: &str| Some(text.to_string());
        assert_eq!(of(&found[0]), (5, "toml".into(), some("a.toml"), None));
        assert_eq!(of(&found[1]), (10, "sh".into(), None, some("needs a GPU")));
        assert_eq!(of(&found[2]), (14, "rust".into(), None, None));
        assert_eq!(found[2].text, "fn a() {}\n  b\n");
        assert_eq!(of(&found[3]), (19, "sh".into(), some("b.txt"), some("")));
    }

    #[test]
    fn lines_of_shell_fall_into_words() {
        let words = |line: &str| simple_commands(line).iter().map(|w| w.join("|")).collect::<Vec<_>>();
        assert_eq!(
            words("cargo xtask train --data 'a b/{0..1}.tar'  # more"),
            ["cargo|xtask|train|--data|a b/{0..1}.tar"]
        );
        assert_eq!(words("A_B=1 srun x --y; [ $? = 75 ] && z \"\""), ["x|--y", "[|$?|=|75|]", "z|"]);
        assert!(words("# x; y").is_empty());
        let block = Block { line: 3, text: "a \\\n  b\n\n# c\nd#e\n".into(), ..Block::default() };
        let line = |line, text: &str| Line { line, text: text.into() };
        assert_eq!(lines(&block), [line(4, "a   b"), line(8, "d#e")]);
    }

    #[test]
    fn code_in_text_is_found_across_lines() {
        let spans = code_spans("a `b`\n```sh\n`no`\n```\nand `c\nd` `e`\n");
        let found: Vec<(usize, &str)> = spans.iter().map(|s| (s.line, s.text.as_str())).collect();
        assert_eq!(found, [(1, "b"), (5, "c d"), (6, "e")]);
    }
}
