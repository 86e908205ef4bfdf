//! Where a source of data is, whatever it is called, and what a run on it is called.

use std::path::{Component, Path, PathBuf};

/// The data that needs no files.
pub const PROCEDURAL: &str = "procedural";

/// Longest name that data gives to a run, in bytes; with room for what programs add to names of files.
const LONGEST: usize = 100;

/// A source in the one form that all its spellings have: `photos`, `photos/`, `./photos`, the absolute path and
/// links to it are one place. Relative ones begin at `base`, the empty path for the working directory.
///
/// A source that does not exist is made absolute as it is written; of a name with wildcards or braces that is done
/// with the folders before the first of them. `procedural` and names on the hub stay as they are.
pub fn place(source: &str, base: &Path) -> String {
    let source = source.trim();
    if is_no_path(source) {
        return source.trim_end_matches('/').into();
    }
    let (path, split) = parted(source, base);
    let (folder, rest) = match base.join(path).exists() {
        true => (path.into(), PathBuf::new()),
        false => before_pattern(path),
    };
    // The empty path, which has no absolute form, is this folder.
    let written = std::path::absolute(Path::new(".").join(base.join(&folder))).unwrap_or(folder);
    let real = resolved(&written);
    let whole = if rest.as_os_str().is_empty() { real } else { real.join(rest) };
    match split {
        Some(split) => format!("{}#{split}", whole.display()),
        None => whole.display().to_string(),
    }
}

/// The name of a run on `source`: that of the folder, list or archive, without extension, as its own folder calls
/// it and not a link; of shards what their names have in common, of a data set of the hub the last part of its name.
/// `default` for the procedural images.
pub fn run_name(source: &str) -> String {
    let source = source.trim();
    if source.is_empty() || source == PROCEDURAL {
        return "default".into();
    }
    if let Some(set) = source.strip_prefix("hf://") {
        let repository = set.split(['@', '#']).next().unwrap_or(set);
        return fit(repository.split('/').nth(1).unwrap_or(repository));
    }
    let (path, _) = parted(source, Path::new(""));
    let there = Path::new(path);
    if there.exists() {
        let real = PathBuf::from(place(path, Path::new("")));
        // Files of fixed names, as IDX and CIFAR have them, say less than their folder.
        let fixed = real.is_file() && {
            let name = last(&real);
            name.contains("-ubyte") || (name.ends_with(".bin") && name.contains("_batch"))
        };
        return match (fixed, real.parent()) {
            (true, Some(folder)) => fit(&last(folder)),
            _ if real.is_file() => fit(stem(&last(&real))),
            _ => fit(&last(&real)),
        };
    }
    let (folder, rest) = before_pattern(path);
    let first = rest.components().next().map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    let literal = first.split(['*', '?', '[', '{']).next().unwrap_or_default();
    let literal = literal.trim_end_matches(['-', '_', '.', ' ']);
    match literal.is_empty() {
        true => fit(&last(Path::new(&place(&folder.display().to_string(), Path::new(""))))),
        false => fit(literal),
    }
}

/// A source of saved settings, whose relative paths begin at `base`, for a session in another working directory: joined
/// to `base`, or as it is written where only this working directory has it.
pub fn from_base(source: &str, base: &Path) -> String {
    if source.is_empty() || is_no_path(source) || Path::new(source).is_absolute() || base.as_os_str().is_empty() {
        return source.into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    if resolved(base) == resolved(&here) {
        return source.into();
    }
    let (path, _) = parted(source, base);
    let is_there = |base: &Path| base.join(before_pattern(path).0).exists();
    // A folder that was moved with its data: what is written is true here.
    if !is_there(base) && is_there(&here) { source.into() } else { base.join(source).display().to_string() }
}

fn is_no_path(source: &str) -> bool {
    source == PROCEDURAL || source.starts_with("hf://")
}

/// A path and the split after its `#`, where the path has none itself.
fn parted<'a>(source: &'a str, base: &Path) -> (&'a str, Option<&'a str>) {
    match source.rsplit_once('#') {
        Some((path, split)) if !base.join(source).exists() => (path, Some(split)),
        _ => (source, None),
    }
}

/// The components before the first with a wildcard or brace, and the rest.
fn before_pattern(path: &str) -> (PathBuf, PathBuf) {
    let is_pattern = |c: &Component| c.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
    let mut rest = Path::new(path).components();
    let mut folder = PathBuf::new();
    while let Some(next) = rest.clone().next().filter(|c| !is_pattern(c)) {
        folder.push(next);
        rest.next();
    }
    (folder, rest.as_path().to_path_buf())
}

/// A path without links and detours, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut there = path;
    loop {
        if let Ok(real) = std::fs::canonicalize(there) {
            return missing.iter().rev().fold(real, |path, name| path.join(name));
        }
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name);
                there = parent;
            }
            _ => return path.into(),
        }
    }
}

fn last(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

/// A file's name without its extension, and without `.tar` before that.
fn stem(name: &str) -> &str {
    let cut = |name: &str| name.rfind('.').filter(|&i| i > 0).unwrap_or(name.len());
    let once = &name[..cut(name)];
    if once.to_ascii_lowercase().ends_with(".tar") { &once[..once.len() - 4] } else { once }
}

/// A name made fit for a run: not hidden, no separators, not too long.
fn fit(name: &str) -> String {
    let plain = |c: char| if c == '/' || c == '\\' || c.is_control() { '-' } else { c };
    let name: String = name.trim().trim_start_matches('.').chars().map(plain).collect();
    let end = (0..=LONGEST.min(name.len())).rev().find(|&i| name.is_char_boundary(i)).unwrap_or(0);
    match name[..end].trim() {
        "" => "data".into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn all_spellings_of_a_place_are_one() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let root = folder.path();
        fs::create_dir_all(root.join("photos/sub"))?;
        fs::write(root.join("photos/list.txt"), "a.png")?;
        let whole = fs::canonicalize(root.join("photos"))?.display().to_string();
        for same in ["photos", "photos/", "./photos", "photos/.", "photos/sub/..", " photos ", &whole] {
            assert_eq!(place(same, root), whole, "{same}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("photos", root.join("link"))?;
            assert_eq!(place("link/", root), whole);
            assert_eq!(place("link/s-{0..3}.tar", root), format!("{whole}/s-{{0..3}}.tar"));
        }
        assert_eq!(place("photos/list.txt", root), format!("{whole}/list.txt"));
        assert_eq!(place("./photos//*.png", root), format!("{whole}/*.png"));
        assert_eq!(place("photos#test", root), format!("{whole}#test"));
        assert_eq!(place("absent/", root), place("./absent", root));
        let here = fs::canonicalize(".")?.display().to_string();
        assert_eq!(place("s-{0..3}.tar", Path::new("")), format!("{here}/s-{{0..3}}.tar"));
        assert_eq!(place("*.tar", Path::new("")), place("./*.tar", Path::new("")));
        assert_eq!((place(".", Path::new("")), place("src/..", Path::new(""))), (here.clone(), here));
        assert_ne!(place("photos", root), place("photos/sub", root));
        assert_eq!((place("procedural", root), place("hf://a/b", root)), ("procedural".into(), "hf://a/b".into()));
        assert_ne!(place("./procedural", root), "procedural");
        Ok(())
    }

    #[test]
    fn runs_are_called_after_their_data() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let root = fs::canonicalize(folder.path())?;
        fs::create_dir_all(root.join("photos/.hidden"))?;
        fs::create_dir_all(root.join("mnist"))?;
        for file in ["list.csv", "a.tar", "clip.mp4", "photos/v1.2.txt", "mnist/train-images-idx3-ubyte"] {
            fs::write(root.join(file), "x")?;
        }
        for (source, name) in [
            ("photos", "photos"),
            ("photos/", "photos"),
            ("photos/.", "photos"),
            ("photos/.hidden/..", "photos"),
            ("photos/.hidden", "hidden"),
            ("photos#test", "photos"),
            ("list.csv", "list"),
            ("photos/v1.2.txt", "v1.2"),
            ("a.tar", "a"),
            ("clip.mp4", "clip"),
            ("mnist/train-images-idx3-ubyte", "mnist"),
            ("photos/shard-{000..012}.tar", "shard"),
            ("photos/*.png", "photos"),
            ("photos/{a,b}/x.tar", "photos"),
            ("absent", "absent"),
        ] {
            assert_eq!(run_name(&root.join(source).display().to_string()), name, "{source}");
        }
        for (source, name) in [
            ("procedural", "default"),
            ("", "default"),
            ("hf://owner/cats@main#test", "cats"),
            ("hf://owner/cats", "cats"),
            ("/", "data"),
        ] {
            assert_eq!(run_name(source), name, "{source}");
        }
        let long = "ä".repeat(200);
        assert!(run_name(&long).len() <= LONGEST);
        Ok(())
    }
}
