//! `selfpatch watch`: a run in the terminal, while it goes on or afterwards.

use anyhow::{Context, Result, bail};
use console::Term;
use selfpatch_output::lose;
use selfpatch_run::{Follower, Outline, View, alarms, log, outline};
use selfpatch_train::SHEET;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Columns of what is not shown on a terminal.
const PLAIN_WIDTH: usize = 80;

/// Which run, and how often to look.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the run [default: the newest in ./runs]
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// Seconds between two looks
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    every: f64,
    /// Print what there is now and end; also where there is no terminal
    #[arg(long)]
    once: bool,
}

/// Shows the run until it is complete, or once.
pub fn run(args: &Args) -> Result<()> {
    let range = Duration::from_millis(100)..=Duration::from_secs(86_400);
    let pause = Duration::try_from_secs_f64(args.every).ok().filter(|pause| range.contains(pause));
    let Some(pause) = pause else { bail!("--every: {} is not a number of seconds from 0.1 to 86400", args.every) };
    let run = match &args.run {
        Some(run) => run.clone(),
        None => newest(Path::new("runs"))?,
    };
    if !is_run(&run) {
        bail!("{}: is not the folder of a run, it has no config.toml and no {}", run.display(), log::FILE_NAME);
    }
    let terminal = Term::stdout();
    let mut log = Follower::of(&run);
    if args.once || !terminal.is_term() {
        let view = look(&run, &mut log)?;
        match (view.records.len(), view.unreadable) {
            (0, 0) => bail!("{}: the run has logged nothing yet", run.display()),
            (0, _) => bail!("{}: holds no line that is a record of a run", run.join(log::FILE_NAME).display()),
            _ => {}
        }
        view.lines(PLAIN_WIDTH).iter().for_each(|line| say!("{line}"));
        return Ok(());
    }
    let mut drawn = 0;
    loop {
        let view = look(&run, &mut log)?;
        let (height, width) = terminal.size();
        let width = usize::from(width).max(20);
        let mut lines = view.lines(width);
        // What scrolled away could not be drawn over.
        lines.truncate(usize::from(height).saturating_sub(1).max(1));
        let lines = lines.iter().map(|line| format!("{}\x1b[K\n", console::truncate_str(line, width - 1, "…")));
        let up = if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
        drawn = lines.len();
        if let Err(e) = terminal.write_str(&format!("{up}{}\x1b[J", lines.collect::<String>())) {
            lose(e);
            return Ok(());
        }
        if view.progress().is_finished() {
            return Ok(());
        }
        std::thread::sleep(pause);
    }
}

/// What the run's folder holds now.
fn look<'a>(run: &'a Path, log: &'a mut Follower) -> Result<View<'a>> {
    log.update()?;
    let quiet = log.modified().map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
    let outline = outline::config_text(run)?.as_deref().map(Outline::of).unwrap_or_default();
    let alarms = alarms::read(run)?;
    Ok(View { run, sheet: &SHEET, outline, records: log.records(), unreadable: log.unreadable(), alarms, quiet })
}

fn is_run(folder: &Path) -> bool {
    [log::FILE_NAME, "config.toml"].iter().any(|name| folder.join(name).is_file())
}

/// The run in a folder that was written to last.
fn newest(runs: &Path) -> Result<PathBuf> {
    let none =
        || format!("{}: holds no run; run `cargo xtask train` first, or name the folder of a run", runs.display());
    let entries = std::fs::read_dir(runs).with_context(none)?;
    entries
        .filter_map(|entry| {
            let run = entry.ok()?.path();
            let time = |name: &str| run.join(name).metadata().ok()?.modified().ok();
            Some((time(log::FILE_NAME).max(time("config.toml"))?, run))
        })
        .max()
        .map(|(_, run)| run)
        .with_context(none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn the_run_written_last_is_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let error = newest(&folder.path().join("runs")).unwrap_err().to_string();
        assert!(error.contains("holds no run"), "{error}");
        assert!(newest(folder.path()).is_err());
        for (name, file, seconds) in
            [("a", "log.jsonl", 300), ("b", "config.toml", 200), ("c", "log.jsonl", 100), ("d", "other", 900)]
        {
            let run = folder.path().join(name);
            fs::create_dir(&run).unwrap();
            let file = File::create(run.join(file)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        }
        assert_eq!(newest(folder.path()).unwrap(), folder.path().join("a"));
    }
}
