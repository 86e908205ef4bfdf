//! The benches that README.md and the pages of docs show: their arguments must be understood.

#[path = "../../crates/cli/tests/docs/page.rs"]
mod page;

use crate::Cli;
use clap::Parser;
use std::path::Path;

#[test]
fn the_benches_of_the_pages_are_understood() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (path, text) in page::pages(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))) {
        let blocks = page::blocks(&text);
        let of_blocks = blocks.iter().filter(|block| block.label == "sh").flat_map(page::lines);
        // With `…` in it, or with nothing behind it, a command is only named.
        let whole = |span: &page::Line| !span.text.contains('…') && span.text.contains(" --");
        for line in of_blocks.chain(page::code_spans(&text).into_iter().filter(whole)) {
            for words in page::simple_commands(&line.text) {
                let Some(args) = words.strip_prefix(&["cargo".to_string(), "xtask".to_string()]) else { continue };
                if args.first().is_none_or(|name| name != "bench") {
                    continue;
                }
                seen += 1;
                if let Err(e) = Cli::try_parse_from(args) {
                    wrong.push(format!("{path}:{}: {}\n{e}", line.line, line.text));
                }
            }
        }
    }
    assert!(seen > 0 && wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(Cli::try_parse_from(["bench", "step", "--bogus"]).is_err());
}
