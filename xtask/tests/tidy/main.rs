//! What the pages of docs say about the code, held against the code: who imports whom, what appears where, which names
//! and files exist. The commands that the pages show are run by `crates/cli/tests/docs`.

mod arrows;
mod circles;
mod invariants;
mod layout;
mod names;
#[path = "../../../crates/cli/tests/docs/page.rs"]
mod page;
mod source;
mod words;

use std::path::Path;

/// Where the project lies.
fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Fails with the list of what is wrong.
fn nothing(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
