//! Names of several files at once: `shard-{000..012}.tar`, `{a,b}.tar`, `*.tar`.

use crate::Error;
use std::path::{Path, PathBuf};

/// Most files that braces may stand for.
const MOST: usize = 100_000;

/// Whether `text` stands for more than one name.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// The files that `text` stands for, in the order of braces and then of names. Each alternative must
/// exist.
pub(super) fn files(text: &str) -> Result<Vec<PathBuf>, Error> {
    let fail = |reason: String| Error::layout(Path::new(text), reason);
    let mut files = Vec::new();
    for name in braces(text).map_err(fail)? {
        if !name.contains(['*', '?', '[']) {
            files.push(PathBuf::from(name));
            continue;
        }
        let before = files.len();
        for path in glob::glob(&name).map_err(|e| fail(e.to_string()))? {
            files.push(path.map_err(|e| fail(e.to_string()))?);
        }
        if files.len() == before {
            return Err(fail(format!("no file matches {name}")));
        }
    }
    match files.iter().find(|f| !f.exists()) {
        Some(missing) => Err(Error::io(missing, std::io::ErrorKind::NotFound.into())),
        None => Ok(files),
    }
}

/// Whether two sources, at least one of which is written with wildcards or braces, name the same files.
pub fn same_files(a: &str, b: &str) -> bool {
    let real = |text: &str| -> Option<Vec<PathBuf>> {
        let files = match Path::new(text).exists() {
            true => vec![text.into()],
            false => files(text).ok()?,
        };
        let mut real = files.iter().map(std::fs::canonicalize).collect::<Result<Vec<_>, _>>().ok()?;
        real.sort();
        Some(real)
    };
    (is_pattern(a) || is_pattern(b)) && real(a).is_some_and(|a| real(b) == Some(a))
}

/// `text` with its braces written out, left to right.
fn braces(text: &str) -> Result<Vec<String>, String> {
    let Some(open) = text.find('{') else { return Ok(vec![text.into()]) };
    let close = text[open..].find('}').map(|i| open + i).ok_or("a brace { is not closed")?;
    let (head, inside, tail) = (&text[..open], &text[open + 1..close], &text[close + 1..]);
    if inside.contains('{') {
        return Err("braces inside of braces are not understood".into());
    }
    let choices: Vec<String> = match inside.split_once("..") {
        Some((from, to)) => {
            let number = |t: &str| t.parse::<usize>().map_err(|_| format!("{{{inside}}} is no range of numbers"));
            let (first, last) = (number(from)?, number(to)?);
            if first > last || last - first >= MOST {
                return Err(format!("{{{inside}}} must count up, to at most {MOST} names"));
            }
            // Written as wide as its first number.
            (first..=last).map(|n| format!("{n:0width$}", width = from.len())).collect()
        }
        None => inside.split(',').map(Into::into).collect(),
    };
    let tails = braces(tail)?;
    if choices.len() * tails.len() > MOST {
        return Err(format!("more than {MOST} names"));
    }
    Ok(choices.iter().flat_map(|c| tails.iter().map(move |t| format!("{head}{c}{t}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::{braces, same_files};

    #[test]
    fn braces_and_wildcards_may_name_the_same_files() {
        let root = std::env::temp_dir().join(format!("selfpatch-pattern-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        (0..3).for_each(|i| std::fs::write(root.join(format!("s-{i}.tar")), "").unwrap());
        let at = |name: &str| root.join(name).display().to_string();
        assert!(same_files(&at("s-{0..2}.tar"), &at("*.tar")) && same_files(&at("s-?.tar"), &at("s-{2,1,0}.tar")));
        assert!(same_files(&at("s-1.tar"), &at("s-[1].tar")));
        assert!(!same_files(&at("s-{0..1}.tar"), &at("*.tar")) && !same_files(&at("*.tar"), &at("{0..9}.tar")));
        assert!(!same_files(&at("s-1.tar"), &at("s-1.tar")), "no pattern, nothing to ask");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn braces_are_written_out() {
        assert_eq!(braces("a.tar").unwrap(), ["a.tar"]);
        assert_eq!(braces("s-{008..011}.tar").unwrap(), ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]);
        assert_eq!(braces("{x,y}/{1..2}").unwrap(), ["x/1", "x/2", "y/1", "y/2"]);
        for bad in ["{1..2", "{3..1}", "{a..c}", "{0..99999999}", "{0..9999}{0..9999}", "{a,{b}}"] {
            assert!(braces(bad).is_err(), "{bad}");
        }
    }
}
