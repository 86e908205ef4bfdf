//! The code map of `docs/architecture.md` against the `Cargo.toml` files.

use crate::nothing;
use crate::source::{self, Source};
use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = "docs/architecture.md";

/// Packages of this project that a `Cargo.toml` names, by the ends of their names.
#[derive(Default)]
struct Imports {
    /// What the library or program and its build import.
    product: BTreeSet<String>,
    /// What its tests import on top of that.
    tests: BTreeSet<String>,
}

/// The imports of each folder.
fn imports(files: &[Source]) -> BTreeMap<String, Imports> {
    let manifests = files.iter().filter(|f| f.path.ends_with("/Cargo.toml"));
    manifests.map(|f| (f.package().to_string(), of_manifest(&f.text))).collect()
}

fn of_manifest(text: &str) -> Imports {
    let (mut imports, mut section) = (Imports::default(), "");
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let Some(name) = line.strip_prefix("selfpatch-").and_then(|rest| rest.split(['.', ' ', '=']).next()) else {
            continue;
        };
        let to = if section.contains("dev-dependencies") { &mut imports.tests } else { &mut imports.product };
        to.insert(name.to_string());
    }
    imports
}

/// Folder and "may import" of each row of the code map, in its order.
fn rows(page: &str) -> Vec<(String, String)> {
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|c| c.trim().to_string()).collect::<Vec<_>>();
    let table = page.lines().skip_while(|l| !l.starts_with("| folder |")).skip(2).take_while(|l| l.starts_with('|'));
    table
        .filter_map(|l| match &cells(l)[..] {
            [folder, .., import] => Some((folder.trim_matches('`').to_string(), import.clone())),
            _ => None,
        })
        .collect()
}

#[test]
fn the_code_map_is_what_the_packages_import() {
    let files = source::all();
    let page = files.iter().find(|f| f.path == PAGE).expect("the page");
    let (imports, rows) = (imports(&files), rows(&page.text));
    let mut wrong = Vec::new();
    let mut above: Vec<String> = Vec::new();
    for (folder, allowed) in &rows {
        let end = |folder: &str| folder.trim_start_matches("crates/").to_string();
        let mut named: BTreeSet<String> =
            allowed.split([',', ';', ' ']).map(str::to_string).filter(|w| above.contains(w)).collect();
        if allowed.starts_with("all above") {
            let but: Vec<&str> = allowed.split(" but ").nth(1).unwrap_or_default().split(", ").collect();
            named = above.iter().filter(|a| !but.contains(&a.as_str())).cloned().collect();
        }
        match imports.get(folder) {
            None => wrong.push(format!("{PAGE}: there is no {folder}")),
            Some(Imports { product: found, tests }) => {
                let below = tests.iter().filter(|t| !above.contains(t)).cloned().collect::<Vec<_>>().join(", ");
                if !below.is_empty() {
                    wrong.push(format!("{folder}/Cargo.toml: tests import {below}, which is not above in {PAGE}"));
                }
                let extra = found.difference(&named).cloned().collect::<Vec<_>>().join(", ");
                if !extra.is_empty() {
                    wrong.push(format!("{folder}/Cargo.toml imports {extra}, which {PAGE} does not let it"));
                }
                let missing = named.difference(found).cloned().collect::<Vec<_>>().join(", ");
                if !missing.is_empty() && !allowed.starts_with("all above") {
                    wrong.push(format!("{PAGE}: {folder} does not import {missing}"));
                }
            }
        }
        above.push(end(folder));
    }
    for folder in imports.keys().filter(|folder| !rows.iter().any(|(row, _)| row == *folder)) {
        wrong.push(format!("{PAGE}: has no row for {folder}"));
    }
    nothing(wrong);
}

#[test]
fn imports_of_tests_are_told_apart() {
    let text = "[dependencies]\nselfpatch-nn.workspace = true\n\n[dev-dependencies]\nselfpatch-vit = { path = \"a\" }\n\
        [build-dependencies]\nselfpatch-simd = \"1\"\n[features]\ncuda = [\"selfpatch-nn/cuda\"]\n";
    let Imports { product, tests } = of_manifest(text);
    let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!((names(product).as_str(), names(tests).as_str()), ("nn simd", "vit"));
}
