//! A page as its reader goes through it.

use crate::page::{self, Block};
use crate::{inputs, program, repository};
use std::fs;
use std::path::Path;

/// What stands behind opening fences.
const LABELS: [&str; 7] = ["sh", "text", "toml", "json", "rust", "python", "cpp"];

/// Runs or parses all commands of a page, writes the files that it shows, and fails with the list of what is wrong.
pub fn commands_work(path: &str) {
    let text = fs::read_to_string(repository().join(path)).expect("a page");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (work, installed) = (folder.path().join("work"), folder.path().join("bin"));
    fs::create_dir(&work).expect("made");
    inputs::make(&work);
    program::install(&installed);
    let reader = Reader { path, work: &work, installed: &installed, commands: program::commands() };
    let mut wrong = Vec::new();
    for block in page::blocks(&text) {
        wrong.extend(reader.block(&block).into_iter().map(|(line, what)| format!("{path}:{line}: {what}")));
    }
    wrong.extend(crate::code::wrong(path, &text, &reader.commands));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

struct Reader<'a> {
    path: &'a str,
    work: &'a Path,
    installed: &'a Path,
    commands: Vec<String>,
}

/// A line of the page and what is wrong there.
type Fault = (usize, String);

impl Reader<'_> {
    fn block(&self, block: &Block) -> Vec<Fault> {
        let fault = |what: String| vec![(block.line, what)];
        if !LABELS.contains(&block.label.as_str()) {
            return fault(format!("a block needs one of the labels {}, not {:?}", LABELS.join(" "), block.label));
        }
        if block.marker.as_deref() == Some("") {
            return fault("a marker needs its reason: <!-- not run: REASON -->".into());
        }
        match block.label.as_str() {
            "sh" if block.marker.is_some() => self.parse(block),
            "sh" => self.run(block),
            "toml" => self.settings(block).map_or_else(fault, |()| Vec::new()),
            "json" => match serde_json::from_str::<serde_json::Value>(&block.text) {
                Ok(_) => Vec::new(),
                Err(e) => fault(format!("is not JSON: {e}")),
            },
            _ => {
                if let Some(name) = &block.file {
                    fs::write(self.work.join(name), &block.text).expect("written");
                }
                Vec::new()
            }
        }
    }

    /// Runs every line; one that fails ends no other.
    fn run(&self, block: &Block) -> Vec<Fault> {
        let mut faults = Vec::new();
        for line in page::lines(block) {
            let start = std::time::Instant::now();
            let output = program::shell(self.work, self.installed, &line.text);
            println!("{}:{}: {:.1} s: {}", self.path, line.line, start.elapsed().as_secs_f32(), line.text);
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                let last: Vec<&str> = said.lines().rev().take(6).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                faults.push((line.line, format!("{}\n    {}: {}", line.text, output.status, last.join("\n    "))));
            }
        }
        faults
    }

    /// Parses the arguments of every command that is the program's.
    fn parse(&self, block: &Block) -> Vec<Fault> {
        let mut faults = Vec::new();
        for line in page::lines(block) {
            for words in page::simple_commands(&line.text) {
                let Some(args) = program::arguments(&words) else { continue };
                if args.first().is_some_and(|command| self.commands.contains(command))
                    && let Err(e) = program::parsed(args)
                {
                    faults.push((line.line, format!("{}\n    {e}", line.text)));
                }
            }
        }
        faults
    }

    /// Settings must be valid; where the page gives them a name, later commands find them under it.
    fn settings(&self, block: &Block) -> Result<(), String> {
        let text = program::over_small(&block.text)?;
        let name = block.file.as_deref().unwrap_or("settings-of-a-page.toml");
        fs::write(self.work.join(name), text).expect("written");
        // The data decides which settings go together, and is not opened; no run has this name, to go on with its own.
        let args = ["train", "--config", name, "--data", "photos", "--name", "of-no-run", "--print-config"];
        let output = program::selfpatch(self.work, &args);
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        }
    }
}

#[test]
fn a_block_without_marker_must_work_and_flags_are_parsed_in_any() {
    let page = "```\nx\n```\n<!-- not run: -->\n```sh\nx\n```\n<!-- not run: why -->\n```sh\nsrun cargo xtask train --bogus 1\n\
                cargo xtask bench --bogus\n```\n```sh\ncargo xtask eval-davis --run runs/nobody\ncargo test\n```\n\
                ```toml\n[optim]\nepoch = 1\n```\n```json\n{\n```\n";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let installed = folder.path().join("bin");
    program::install(&installed);
    let reader = Reader { path: "page", work: folder.path(), installed: &installed, commands: program::commands() };
    let faults: Vec<Fault> = page::blocks(page).iter().flat_map(|block| reader.block(block)).collect();
    let expected = [
        (1, "a block needs one of the labels"),
        (5, "a marker needs its reason"),
        (10, "unexpected argument '--bogus'"),
        (14, "runs/nobody"),
        (15, "cargo test is not run here"),
        (17, "there is no field optim.epoch"),
        (21, "is not JSON"),
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for ((line, what), expected) in faults.iter().zip(expected) {
        assert!(*line == expected.0 && what.contains(expected.1), "line {line}: {what}; {expected:?}");
    }
}
