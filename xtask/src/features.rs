//! Which cargo features of the program the arguments ask for.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// Entries of a folder that are looked at before it counts as one without parquet files.
const MOST: usize = 10_000;

/// The features, joined by commas; none for most arguments.
pub fn wanted(command: &str, args: &[String]) -> String {
    let mut features = Vec::new();
    match value(args, "--device").or((command == "gpu-check").then_some("cuda")) {
        Some(d) if d.starts_with("cuda") => features.push("cuda"),
        Some("metal") => features.push("metal"),
        _ => {}
    }
    let file = value(args, "--config").and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let data = data(args).or_else(|| path_in(&file)).or_else(|| saved(args));
    if args.iter().any(|a| a.contains("hf://")) || data.as_ref().is_some_and(|d| d.starts_with("hf://")) {
        features.push("hub");
    } else if let Some(data) = data {
        let path = data.split('#').next().unwrap_or(&data);
        let folder = Path::new(path);
        if is_records(folder) || folder.is_dir() && any(folder, &|p| is_records(p)) {
            features.push("candle-datasets");
        } else if path.ends_with(".parquet") || folder.is_dir() && any(folder, &|p| has_extension(p, "parquet")) {
            features.push("parquet");
        }
    }
    features.join(",")
}

/// The features that arguments for cargo name, joined by commas.
pub fn named(args: &[String]) -> String {
    let after = args.windows(2).filter(|pair| pair[0] == "--features" || pair[0] == "-F").map(|pair| pair[1].as_str());
    let joined = args.iter().filter_map(|a| a.strip_prefix("--features=").or_else(|| a.strip_prefix("-F")));
    after.chain(joined.filter(|list| !list.is_empty())).collect::<Vec<_>>().join(",")
}

/// The value that follows a flag.
fn value<'a>(args: &'a [String], flag: &str) -> Option<&'a str> {
    let after = args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1)).map(String::as_str);
    after.or_else(|| args.iter().find_map(|a| a.strip_prefix(flag)?.strip_prefix('=')))
}

/// The data that flags name.
fn data(args: &[String]) -> Option<String> {
    let flags = ["--data", "--data-path", "--data_path", "--train", "--val"];
    let set = || args.iter().find_map(|a| a.strip_prefix("--set=").unwrap_or(a).strip_prefix("data.path="));
    flags.iter().find_map(|flag| value(args, flag)).or_else(set).map(|d| d.trim_matches('"').to_string())
}

/// `path` in the section `[data]` of a configuration.
fn path_in(config: &str) -> Option<String> {
    let mut inside = false;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[data]";
        } else if let Some((key, text)) = line.split_once('=')
            && (inside && key.trim() == "path" || key.trim() == "data.path")
        {
            return Some(text.trim().trim_matches(['"', '\'']).to_string());
        }
    }
    None
}

/// The data of the run that arguments name without its data, as `train --name mine` does.
fn saved(args: &[String]) -> Option<String> {
    let folders = ["--resume", "--output-dir", "--output_dir"].iter().filter_map(|flag| value(args, flag));
    let named = value(args, "--name").map(|name| Path::new("runs").join(name));
    // Of a checkpoint its own settings.
    let run =
        folders.map(Path::new).map(Path::to_path_buf).chain(named).find(|run| run.join("config.toml").is_file())?;
    let data = path_in(&fs::read_to_string(run.join("config.toml")).ok()?)?;
    // Relative to where `runs` is, if not to this folder.
    let elsewhere = run.parent()?.parent()?.join(&data);
    match Path::new(&data).exists() || data.contains("://") || !elsewhere.exists() {
        true => Some(data),
        false => Some(elsewhere.to_string_lossy().into_owned()),
    }
}

/// Whether a file is named as those of MNIST or CIFAR are.
fn is_records(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.ends_with("-ubyte") || name == "test_batch.bin" || name.starts_with("data_batch_") && name.ends_with(".bin")
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

/// Whether one of the first files below `folder` is wanted.
fn any(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> bool {
    let (mut folders, mut seen) = (vec![folder.to_path_buf()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            seen += 1;
            if seen > MOST {
                return false;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                _ if wanted(&path) => return true,
                _ => {}
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> String {
        wanted("train", &args.iter().map(|a| a.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_choose_features() {
        assert_eq!(of(&["--data", "photos"]), "");
        assert_eq!(of(&["--device", "cuda:0", "--weights=hf://o/n/w.safetensors"]), "cuda,hub");
        assert_eq!(wanted("gpu-check", &[]), "cuda");
        assert_eq!(wanted("gpu-check", &["--device=cpu".into()]), "");
        assert_eq!(of(&["--data", "hf://o/n#test"]), "hub");
        assert_eq!(of(&["--data-path=x/a-{0..3}.parquet"]), "parquet");
        assert_eq!(of(&["--set", "data.path=\"hf://o/n\""]), "hub");
        assert_eq!(of(&["--train", "x/train.parquet", "--val", "x/val.parquet"]), "parquet");
        assert_eq!(of(&["--data", "mnist/train-images-idx3-ubyte"]), "candle-datasets");
    }

    #[test]
    fn features_named_for_cargo() {
        let named = |args: &[&str]| named(&args.iter().map(|a| a.to_string()).collect::<Vec<_>>());
        assert_eq!(named(&["--features", "cuda,hub"]), "cuda,hub");
        assert_eq!(named(&["-F", "hub", "--features=cuda"]), "hub,cuda");
        assert_eq!(named(&["--features", "hub", "--features", "cuda", "-Fparquet"]), "hub,cuda,parquet");
        assert_eq!(named(&["--verbose"]), "");
    }

    #[test]
    fn folders_and_files_tell_what_they_hold() {
        let root = std::env::temp_dir().join(format!("xtask-features-{}", std::process::id()));
        let at = |name: &str| root.join(name).to_string_lossy().into_owned();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("c")).unwrap();
        fs::write(at("a/b/x.parquet"), "").unwrap();
        fs::write(at("c/t10k-labels-idx1-ubyte"), "").unwrap();
        fs::write(at("run.toml"), "path = \"no\"\n[data]\nseed = 1\npath = \"hf://o/n\"\n").unwrap();
        assert_eq!(of(&["--data", &at("a")]), "parquet");
        assert_eq!(of(&["--data", &format!("{}#test", at("c"))]), "candle-datasets");
        assert_eq!(of(&["--config", &at("run.toml")]), "hub");
        // A run that its folder alone names.
        fs::create_dir_all(root.join("runs/mine")).unwrap();
        fs::write(at("runs/mine/config.toml"), "name = \"mine\"\n[data]\npath = \"a\"\n").unwrap();
        assert_eq!(of(&["--resume", &at("runs/mine")]), "parquet");
        assert_eq!(of(&[&format!("--output-dir={}", at("runs/mine"))]), "parquet");
        assert_eq!(of(&["--name", "no-such-run"]), "");
        fs::remove_dir_all(root).unwrap();
    }
}
