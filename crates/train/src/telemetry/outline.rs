//! The few settings that whoever shows a run wants to know.

use std::fs;
use std::io;
use std::path::Path;
use toml::Table;

/// What is known of a run's settings. Every field may be absent: a page should still be drawn
/// for a configuration of another version, or for none.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Outline {
    /// `name`, or `run.name`.
    pub name: Option<String>,
    /// `optim.epochs`.
    pub epochs: Option<u64>,
    /// `optim.max_steps`.
    pub max_steps: Option<u64>,
    /// `head.out_dim`: the teacher's outputs, whose logarithm is its greatest entropy.
    pub prototypes: Option<u64>,
    /// Global views whose features are looked at together: two per image of a part of a step.
    pub rows: Option<u64>,
    /// `head.bottleneck_dim`: the width of these features.
    pub width: Option<u64>,
}

impl Outline {
    /// Directions that the features of one look can use.
    pub fn directions(&self) -> f64 {
        let most = crate::health::ROWS as u64;
        self.rows.unwrap_or(most).min(self.width.unwrap_or(most)).min(most).max(1) as f64
    }

    /// Reads the text of a `config.toml`; what is not valid TOML tells nothing.
    pub fn of(config: &str) -> Self {
        let Ok(table) = config.parse::<Table>() else { return Self::default() };
        let whole = |section: &str, field: &str| {
            let value = table.get(section)?.get(field)?.as_integer()?;
            u64::try_from(value).ok()
        };
        let name = table.get("name").or_else(|| table.get("run")?.get("name"));
        let name = name.and_then(|n| n.as_str()).map(str::trim).filter(|n| !n.is_empty());
        let images = whole("optim", "batch_size");
        let parts = whole("optim", "accumulate").unwrap_or(1).max(1);
        Self {
            name: name.map(str::to_owned),
            epochs: whole("optim", "epochs"),
            max_steps: whole("optim", "max_steps"),
            prototypes: whole("head", "out_dim"),
            rows: images.map(|images| 2 * images.div_ceil(parts)),
            width: whole("head", "bottleneck_dim"),
        }
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
        Err(error) => Err(super::name_file(&path)(error)),
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
        assert_eq!((o.epochs, o.max_steps, o.prototypes), (Some(3), None, Some(512)));
        assert_eq!(Outline::of("optim = 4"), Outline::default());
    }

    #[test]
    fn a_recipe_tells_all() {
        let config = crate::Preset::Default.config();
        let o = Outline::of(&config.to_toml().unwrap());
        assert_eq!(o.name.as_deref(), Some("default"));
        assert_eq!((o.epochs, o.prototypes, o.rows), (Some(1), Some(512), Some(32)));
        assert_eq!(o.directions(), 32.0);
        assert_eq!(Outline::default().directions(), 64.0);
    }
}
