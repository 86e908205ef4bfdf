//! How files are laid out.

use crate::nothing;
use crate::source;

/// Longest line of a page, in characters; of tables and code blocks it is not asked for.
const WIDEST: usize = 100;

/// Lines of a page beyond [`WIDEST`], by their numbers.
fn too_wide(page: &str) -> Vec<usize> {
    let mut in_code = false;
    let mut wide = Vec::new();
    for (number, line) in (1..).zip(page.lines()) {
        let text = line.trim_start();
        in_code ^= text.starts_with("```");
        if !in_code && !text.starts_with('|') && line.chars().count() > WIDEST {
            wide.push(number);
        }
    }
    wide
}

#[test]
fn lines_of_pages_fit() {
    let all = source::all();
    // The changelog has a line for each thing, however long.
    let pages = all.iter().filter(|f| f.path.ends_with(".md") && f.path != "CHANGELOG.md");
    let wide = |page: &source::Source| {
        let numbers = too_wide(&page.text).into_iter();
        numbers.map(|number| format!("{}:{number}: more than {WIDEST} characters", page.path)).collect::<Vec<_>>()
    };
    nothing(pages.flat_map(wide).collect());
    let long = "x".repeat(WIDEST + 1);
    let page = format!("{long}\n```sh\n{long}\n```\n| {long} |\n  {long}\n{}\n# A\n{long}\n", "é".repeat(WIDEST));
    assert_eq!(too_wide(&page), [1, 6, 9]);
}

#[test]
fn every_source_file_begins_with_what_it_is() {
    let all = source::all();
    let silent = all.iter().filter(|f| f.path.ends_with(".rs") && !f.text.starts_with("//!"));
    nothing(silent.map(|f| format!("{}: its first line says nothing of it (//!)", f.path)).collect());
}
