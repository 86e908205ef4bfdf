//! The program as the pages call it, and what it says of arguments without doing anything.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use toml::{Table, Value};

/// Settings that a file of a page is laid over.
const SMALL: &str = include_str!("small.toml");

/// Puts what stands for `cargo` and `selfpatch` into `folder`.
pub fn install(folder: &Path) {
    fs::create_dir_all(folder).expect("made");
    for (name, text) in [("selfpatch", include_str!("small.sh")), ("cargo", include_str!("cargo.sh"))] {
        fs::write(folder.join(name), text).expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).expect("executable");
        }
    }
    fs::write(folder.join("small.toml"), SMALL).expect("written");
    fs::write(folder.join("small-heads.toml"), over_small("model.arch = \"vit_tiny\"").expect("settings"))
        .expect("written");
}

/// The settings of a page, laid over those that keep a run small.
pub fn over_small(text: &str) -> Result<String, String> {
    fn lay(over: Table, under: &mut Table) {
        for (key, value) in over {
            match (under.get_mut(&key), value) {
                (Some(Value::Table(under)), Value::Table(over)) => lay(over, under),
                (_, value) => _ = under.insert(key, value),
            }
        }
    }
    let mut all: Table = SMALL.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let own: Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    if own.get("model").and_then(|model| model.get("arch")).is_some() {
        // It has a width of its own.
        all.remove("model");
    }
    lay(own, &mut all);
    Ok(all.to_string())
}

/// Runs a line of shell in `folder`; `installed` is the folder of [`install`].
pub fn shell(folder: &Path, installed: &Path, line: &str) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(installed.to_path_buf()).chain(std::env::split_paths(&path)));
    let mut command = Command::new("sh");
    command.current_dir(folder).args(["-c", line]).env("PATH", path.expect("a path"));
    command.env("SELFPATCH_PROGRAM", env!("CARGO_BIN_EXE_selfpatch"));
    command.env("SMALL", installed);
    command.env("SELFPATCH_CACHE", folder.join("cache")).env("HF_HUB_OFFLINE", "1");
    command.output().expect("a shell")
}

/// What the program itself says.
pub fn selfpatch(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_selfpatch")).current_dir(folder).args(args).output().expect("the program runs")
}

/// The commands of the program.
pub fn commands() -> Vec<String> {
    let help = selfpatch(Path::new("."), &["--help"]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    let list = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    let list =
        list.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    list.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_string).collect()
}

/// Whether the program understands its arguments; it does nothing with them.
pub fn parsed(args: &[String]) -> Result<(), String> {
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    // Reached only if all before it is understood.
    args.push("--help");
    let output = selfpatch(Path::new("."), &args);
    let first = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_string();
    if output.status.success() { Ok(()) } else { Err(first) }
}

/// Whether a command of the program has a flag.
pub fn has_flag(command: &str, flag: &str) -> bool {
    let output = selfpatch(Path::new("."), &[command, flag, "--help"]);
    !String::from_utf8_lossy(&output.stderr).contains("unexpected argument")
}

/// Whether the configuration has a field; `folder` is any.
pub fn has_field(folder: &Path, field: &str) -> bool {
    let output = selfpatch(folder, &["train", "--print-config", "--set", &format!("{field}=0")]);
    !String::from_utf8_lossy(&output.stderr).contains("there is no field")
}

/// The program in one of the ways in which pages name it, and what follows: its arguments.
pub fn arguments(words: &[String]) -> Option<&[String]> {
    match words {
        [cargo, xtask, emulate, rest @ ..] if cargo == "cargo" && xtask == "xtask" && emulate == "cuda-emulate" => {
            let program = rest.iter().position(|word| word == "--").filter(|_| rest[0] == "run")?;
            Some(&rest[program + 1..])
        }
        [cargo, xtask, rest @ ..] if cargo == "cargo" && xtask == "xtask" => Some(rest),
        [program, rest @ ..] if program == "selfpatch" || program.ends_with("selfpatch-gpu/run.sh") => Some(rest),
        _ => None,
    }
}
