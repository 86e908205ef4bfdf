//! No two files of a crate import each other.
//!
//! An import is a path that begins with `crate`, `super`, `self` or the name of a child and names a module, or a name
//! that a module declares or re-exports; it counts for the file that declares the name, and `super::*` for the parent.
//! Declaring a child (`mod x;`) and re-exporting from it (`pub use x::…`) are no imports.

use crate::nothing;
use crate::source::{self, Source, has_word};
use std::collections::{BTreeMap, BTreeSet};

/// A file of a crate as a module.
struct Module<'a> {
    /// Its file.
    path: &'a str,
    /// Its code without comments and tests.
    code: String,
}

/// The modules of a crate by their paths within it, `""` for the root.
type Modules<'a> = BTreeMap<String, Module<'a>>;

/// The place of a file among the modules of its crate: `ops/mod.rs` is `ops`, `ops/gelu.rs` is `ops::gelu`.
fn place(file: &str) -> String {
    let place = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if ["lib", "main", "mod"].contains(&place) { String::new() } else { place.replace('/', "::") }
}

fn modules<'a>(files: &'a [Source], package: &str) -> Modules<'a> {
    let root = format!("{package}/src/");
    let own = files.iter().filter(|f| f.is_product() && f.path.starts_with(&root));
    own.map(|f| {
        let code = f.code().into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        (place(&f.path[root.len()..]), Module { path: &f.path, code })
    })
    .collect()
}

/// `a::b` and `c` as `a::b::c`.
fn joined(module: &str, name: &str) -> String {
    if module.is_empty() { name.into() } else { format!("{module}::{name}") }
}

/// All paths of code that begin with one of `roots`, with the braces of `use` declarations multiplied out.
fn paths(code: &str, roots: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for root in roots {
        for (at, _) in code.match_indices(root.as_str()) {
            let before = code[..at].chars().next_back();
            // `super::super::x` and `pub(in crate::x)` begin earlier or are no imports.
            if before.is_some_and(|c| c.is_alphanumeric() || "_:$\"/`".contains(c)) || code[..at].ends_with("(in ") {
                continue;
            }
            let line = code[..at].rsplit('\n').next().unwrap_or_default();
            let is_export = line.trim_start().starts_with("pub use");
            if !is_export {
                expand("", &code[at..], &mut found);
            }
        }
    }
    found
}

/// The paths that `text` begins with, each after `prefix`; how many bytes they take.
fn expand(prefix: &str, text: &str, found: &mut Vec<String>) -> usize {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let whole = format!("{prefix}{}", &text[..end]);
    if !whole.ends_with("::") || !text[end..].starts_with('{') {
        match text[end..].starts_with('*') {
            true => found.push(whole + "*"),
            false => found.push(whole.trim_end_matches(':').to_string()),
        }
        return end;
    }
    let mut at = end + 1;
    while at < text.len() && !text[at..].starts_with('}') {
        match text[at..].chars().next() {
            Some(c) if c.is_alphanumeric() || c == '_' => at += expand(&whole, &text[at..], found).max(1),
            Some(c) => at += c.len_utf8(),
            None => break,
        }
    }
    at + 1
}

/// The module whose file declares what `path`, seen from the module `from`, names.
fn declares(modules: &Modules, from: &str, path: &str) -> Option<String> {
    let (mut at, mut names) = (from.to_string(), path.split("::").peekable());
    while let Some(first) = names.peek() {
        match *first {
            "crate" => at.clear(),
            "self" => {}
            "super" => at = at.rsplit_once("::").map_or(String::new(), |(parent, _)| parent.into()),
            _ => break,
        }
        names.next();
    }
    let name = loop {
        let name = names.next()?;
        if name == "*" {
            return Some(at);
        }
        match modules.contains_key(&joined(&at, name)) {
            true => at = joined(&at, name),
            false => break name,
        }
        if names.peek().is_none() {
            return Some(at);
        }
    };
    Some(origin(modules, &at, name, 0))
}

/// The module that declares `name`, which `module` declares itself or re-exports.
fn origin(modules: &Modules, module: &str, name: &str, depth: usize) -> String {
    let Some(Module { code, .. }) = modules.get(module).filter(|_| depth < 5) else { return module.into() };
    for (at, _) in code.match_indices("pub") {
        let Some(used) = code[at..].split_once(';').map(|(used, _)| used).filter(|used| used.contains("use ")) else {
            continue;
        };
        let Some((_, list)) = used.split_once("use ").filter(|(before, _)| !before.contains('\n')) else { continue };
        let mut exported = Vec::new();
        expand("", list, &mut exported);
        let is_named = |path: &&String| path.rsplit("::").next() == Some(name);
        if let Some((of, _)) = exported.iter().find(is_named).and_then(|path| path.rsplit_once("::"))
            && has_word(list, name)
        {
            let of = of.trim_start_matches("self::");
            let child = match of.strip_prefix("crate::") {
                Some(absolute) => absolute.to_string(),
                None => joined(module, of),
            };
            if modules.contains_key(&child) {
                return origin(modules, &child, name, depth + 1);
            }
        }
    }
    module.into()
}

/// Pairs of files that import each other.
fn circles(modules: &Modules) -> Vec<String> {
    let mut imports: BTreeSet<(String, String)> = BTreeSet::new();
    for (from, module) in modules {
        let names = modules.keys().filter_map(|m| m.strip_prefix(from.as_str()).filter(|_| m != from));
        let names = names.map(|name| name.trim_start_matches("::")).filter(|name| !name.contains("::"));
        let children = names.filter(|name| module.code.contains(&format!("mod {name};")));
        let roots: Vec<String> =
            ["crate", "super", "self"].into_iter().chain(children).map(|r| format!("{r}::")).collect();
        let to = paths(&module.code, &roots).into_iter().filter_map(|path| declares(modules, from, &path));
        imports.extend(to.filter(|to| to != from).map(|to| (from.clone(), to)));
    }
    let both = imports.iter().filter(|(a, b)| a < b && imports.contains(&(b.clone(), a.clone())));
    both.map(|(a, b)| format!("{} and {} import each other", modules[a].path, modules[b].path)).collect()
}

#[test]
fn no_two_files_import_each_other() {
    let files = source::all();
    let packages: BTreeSet<&str> = files.iter().filter(|f| f.is_product()).map(Source::package).collect();
    nothing(packages.into_iter().flat_map(|package| circles(&modules(&files, package))).collect());
}

#[test]
fn circles_are_found_through_names_and_re_exports() {
    let of = |files: &[(&str, &str)]| {
        let source = |(path, text): &(&str, &str)| Source { path: format!("x/src/{path}"), text: text.to_string() };
        circles(&modules(&files.iter().map(source).collect::<Vec<_>>(), "x"))
    };
    let lib = ("lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::{B, C};");
    let both = [lib, ("a.rs", "use crate::{B, other};\npub struct A;"), ("b.rs", "use super::A;\npub struct B;")];
    assert_eq!(of(&both), ["x/src/a.rs and x/src/b.rs import each other"]);
    let one = [
        lib,
        ("a.rs", "use crate::B;"),
        ("b.rs", "pub struct B;\n// use crate::A;\n#[cfg(test)]\nmod tests {\nuse crate::A;\n}"),
    ];
    assert!(of(&one).is_empty());
    let nested = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b;\nmod c;\npub use b::B;\nfn own() {}"),
        ("a/b.rs", "use super::c::{self, C};\nfn f() { super::own() }"),
        ("a/c.rs", "fn g() -> crate::a::B {}"),
    ];
    assert_eq!(of(&nested), ["x/src/a/b.rs and x/src/a/c.rs import each other"]);
    let parent = [
        ("lib.rs", "mod a;\nuse a::A;\npub struct L;\nfn f() -> self::a::A {}"),
        ("a.rs", "use crate::L;\npub struct A;"),
    ];
    assert_eq!(of(&parent), ["x/src/lib.rs and x/src/a.rs import each other"]);
    let relative =
        [("lib.rs", "mod a;\npub struct L;\nfn f() {\n    a::g()\n}"), ("a.rs", "use super::*;\npub fn g() -> L {}")];
    assert_eq!(of(&relative), ["x/src/lib.rs and x/src/a.rs import each other"]);
    let exports = [
        ("lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::{B, /* all */};"),
        ("a.rs", "use super::B;\npub struct A;"),
        ("b.rs", "pub struct B;"),
    ];
    assert!(of(&exports).is_empty());
}
