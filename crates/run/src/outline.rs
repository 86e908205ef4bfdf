//! The few settings that whoever shows a run wants to know.

use std::fs;
use std::io;
use std::path::Path;
use toml::Table;

/// What is known of a run's settings. Every field may be absent: a page should still be drawn
/// for a configuration of another version, or for none.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Outline {
    /// Name of the run, from `name` or `run.name`.
    pub name: Option<String>,
    /// Number of epochs, from `optim.epochs`.
    pub epochs: Option<u64>,
    /// Greatest number of steps, from `optim.max_steps`.
    pub max_steps: Option<u64>,
    /// All settings.
    pub settings: Table,
}

impl Outline {
    /// A setting that is a whole number, such as `epochs` of `optim`.
    pub fn whole(&self, section: &str, field: &str) -> Option<u64> {
        u64::try_from(self.settings.get(section)?.get(field)?.as_integer()?).ok()
    }

    /// Reads the text of a `config.toml`; what is not valid TOML tells nothing.
    pub fn of(config: &str) -> Self {
        let Ok(table) = config.parse::<Table>() else { return Self::default() };
        let name = table.get("name").or_else(|| table.get("run")?.get("name"));
        let name = name.and_then(|n| n.as_str()).map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned);
        let read = Self { name, settings: table, ..Self::default() };
        let (epochs, max_steps) = (read.whole("optim", "epochs"), read.whole("optim", "max_steps"));
        Self { epochs, max_steps, ..read }
    }

    /// The run's name, or that of its folder.
    pub fn name_or_folder(&self, run: &Path) -> String {
        self.name.clone().unwrap_or_else(|| {
            let whole = run.canonicalize();
            let whole = whole.as_deref().unwrap_or(run);
            whole.file_name().map_or_else(|| "run".into(), |n| n.to_string_lossy().into_owned())
        })
    }
}

/// The text of `config.toml` in the run folder `run`, `None` where there is none.
///
/// # Errors
/// When it cannot be read; the error names the file.
pub fn config_text(run: &Path) -> io::Result<Option<String>> {
    let path = run.join("config.toml");
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(crate::name_file(&path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_count() {
        let name = |config: &str| Outline::of(config).name;
        assert_eq!(name("x = 1\nname = \"a\" # b\n").as_deref(), Some("a"));
        assert_eq!(name("[model]\nname = \"vit\"\n[run]\nname='b'").as_deref(), Some("b"));
        assert_eq!(name("[model]\nname = \"vit\""), None);
        assert_eq!(name("names = \"x\"\nname = \"\""), None);
        assert_eq!(name("name = \"\u{e9}"), None);
    }

    #[test]
    fn lengths_are_read_and_nonsense_is_absent() {
        let o = Outline::of("[optim]\nepochs = 3\nmax_steps = -1\n[head]\nout_dim = 512\n");
        assert_eq!((o.epochs, o.max_steps, o.whole("head", "out_dim")), (Some(3), None, Some(512)));
        let none = Outline::of("optim = 4");
        assert_eq!((none.name.as_ref(), none.epochs, none.max_steps), (None, None, None));
        assert_eq!(Outline::of("optim = "), Outline::default());
    }
}
